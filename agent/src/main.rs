//! Entry point of the ramdisk program.
//!
//! As process 1 it is `/init`; under the name `modprobe` it loads modules for the kernel; with `agent` it is
//! the agent of the ramdisk.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.first().is_some_and(|name| name.ends_with("modprobe")) {
        bessemer_agent::modules::modprobe(arguments.get(1..).unwrap_or_default());
        return ExitCode::SUCCESS;
    }
    if std::process::id() == 1 {
        bessemer_agent::init::run();
    }
    match arguments.get(1).map(String::as_str) {
        Some("agent") => {
            let debug = std::fs::read_to_string("/proc/cmdline").is_ok_and(|text| text.contains("ipa-debug=1"));
            bessemer_agent::log::start(debug);
            let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(e) => {
                    eprintln!("bessemer: no runtime: {e}");
                    return ExitCode::FAILURE;
                }
            };
            if let Err(e) = runtime.block_on(bessemer_agent::run::ramdisk()) {
                tracing::error!("{e}");
            }
            ExitCode::FAILURE
        }
        _ => {
            eprintln!("usage: bessemer-agent agent");
            ExitCode::FAILURE
        }
    }
}
