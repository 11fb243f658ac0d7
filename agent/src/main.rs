//! Entry point of the ramdisk program.
//!
//! As process 1 it is `/init`; under the name `modprobe` it loads modules for the kernel; with `agent` it is
//! the agent of the ramdisk. On an ordinary machine `run` starts an agent that touches only the devices it is
//! given, and `write-image` writes one image, both for tests and measurements.

use bessemer_agent::image::request::ImageSettings;
use bessemer_agent::image::{ImageInfo, WriteImageRequest, write_image};
use bessemer_agent::params::{Params, PowerMode, Settings};
use bessemer_agent::progress::Progress;
use bessemer_agent::{http, init, log, modules, run};
use std::fmt::Display;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

const USAGE: &str = "usage:
  bessemer-agent agent
      the agent of the ramdisk; parameters from /proc/cmdline
  bessemer-agent run [--param NAME=VALUE]... [--only-disk DEVICE]... [--listen ADDRESS:PORT]
                     [--no-tls] [--no-power] [--state-dir DIR]
      an agent on an ordinary machine: no network set-up, only the named devices, power commands noted with --no-power
  bessemer-agent write-image --url URL --device DEVICE [--checksum SUM] [--algorithm NAME] [--format NAME] [--insecure]
      writes one image and prints what was done";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let rest = arguments.get(1..).unwrap_or_default();
    if arguments.first().is_some_and(|name| name.ends_with("modprobe")) {
        modules::modprobe(rest);
        return ExitCode::SUCCESS;
    }
    if std::process::id() == 1 {
        init::run();
    }
    match rest.first().map(String::as_str) {
        Some("agent") => {
            let debug = std::fs::read_to_string("/proc/cmdline").is_ok_and(|text| Settings::from_params(&Params::parse(&text)).debug);
            log::start(debug);
            finish(block_on(run::ramdisk()))
        }
        Some("run") => match run_settings(rest.get(1..).unwrap_or_default()) {
            Ok(settings) => {
                log::start(settings.debug);
                finish(block_on(run::agent(settings, None)))
            }
            Err(e) => usage(&e),
        },
        Some("write-image") => match write_request(rest.get(1..).unwrap_or_default()) {
            Ok(request) => {
                log::start(false);
                http::install_crypto();
                match block_on(write_image(request, Arc::new(Progress::default()))) {
                    Ok(Ok(report)) => {
                        println!("{report:?}");
                        ExitCode::SUCCESS
                    }
                    other => finish(other.map(|written| written.map(drop))),
                }
            }
            Err(e) => usage(&e),
        },
        _ => usage("a mode is needed"),
    }
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("{problem}\n{USAGE}");
    ExitCode::from(2)
}

fn block_on<F: Future>(work: F) -> std::io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(work))
}

fn finish<E: Display>(outcome: std::io::Result<Result<(), E>>) -> ExitCode {
    match outcome {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(e)) => eprintln!("bessemer: {e}"),
        Err(e) => eprintln!("bessemer: no runtime: {e}"),
    }
    ExitCode::FAILURE
}

/// Options with a value come as two words, or as one with `=`.
struct Options<'a>(std::slice::Iter<'a, String>);

impl<'a> Options<'a> {
    fn next(&mut self) -> Option<(&'a str, Option<&'a str>)> {
        let word = self.0.next()?;
        Some(word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value))))
    }

    fn value(&mut self, name: &str, inline: Option<&'a str>) -> Result<&'a str, String> {
        inline.or_else(|| self.0.next().map(String::as_str)).ok_or_else(|| format!("{name} needs a value"))
    }
}

fn run_settings(words: &[String]) -> Result<Settings, String> {
    let mut params = Params::default();
    let (mut disks, mut listen, mut state, mut tls, mut power) = (Vec::new(), None, None, true, PowerMode::Real);
    let mut options = Options(words.iter());
    while let Some((name, inline)) = options.next() {
        match name {
            "--param" => {
                let text = options.value(name, inline)?;
                let (key, value) = text.split_once('=').unwrap_or((text, ""));
                params.insert(key, value);
            }
            "--only-disk" => disks.push(PathBuf::from(options.value(name, inline)?)),
            "--listen" => listen = Some(options.value(name, inline)?.to_owned()),
            "--state-dir" => state = Some(PathBuf::from(options.value(name, inline)?)),
            "--no-tls" => tls = false,
            "--no-power" => power = PowerMode::Recorded,
            _ => return Err(format!("unknown option {name}")),
        }
    }
    let mut settings = Settings::from_params(&params);
    if let Some(listen) = listen {
        let (host, port) = listen.rsplit_once(':').ok_or("--listen needs ADDRESS:PORT")?;
        settings.listen_host = Some(host.to_owned());
        settings.listen_port = port.parse().map_err(|_| format!("--listen: {port} is no port"))?;
        settings.advertise_port = settings.listen_port;
    }
    // No device at all is also a restriction: an agent for tests never looks at this machine's own disks.
    settings.only_disks = if disks.is_empty() { vec![PathBuf::from("/nonexistent")] } else { disks };
    settings.state_dir = state;
    settings.tls = tls;
    settings.power = power;
    Ok(settings)
}

fn write_request(words: &[String]) -> Result<WriteImageRequest, String> {
    let mut info = ImageInfo { id: "command line".into(), ..ImageInfo::default() };
    let mut device = None;
    let mut settings = ImageSettings { ca_pem: std::fs::read(http::CA_FILE).ok(), ..ImageSettings::default() };
    let mut options = Options(words.iter());
    while let Some((name, inline)) = options.next() {
        match name {
            "--url" => info.urls.push(options.value(name, inline)?.to_owned()),
            "--checksum" => info.os_hash_value = Some(options.value(name, inline)?.to_owned()),
            "--algorithm" => info.os_hash_algo = Some(options.value(name, inline)?.to_owned()),
            "--format" => info.disk_format = Some(options.value(name, inline)?.to_owned()),
            "--device" => device = Some(PathBuf::from(options.value(name, inline)?)),
            "--insecure" => settings.insecure = true,
            _ => return Err(format!("unknown option {name}")),
        }
    }
    let device = device.ok_or("--device is missing")?;
    WriteImageRequest::from_image_info(&info, &device, &settings).map_err(|e| e.to_string())
}
