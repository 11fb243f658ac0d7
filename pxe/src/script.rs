//! The iPXE script of a machine, rendered from its boot plan. Scripts hold no secret besides the plan's nonce, and no
//! text from a plan can become a command: words that iPXE would interpret are refused.

use std::fmt::Write as _;

use crate::mac::MacAddr;
use crate::plan::{BootPlan, BootWhat};

/// Longest kernel command line in bytes (x86 takes 2047, other architectures no less).
const COMMAND_LINE_MAX: usize = 2047;
/// Longest script given by an operator.
const CUSTOM_MAX: usize = 64 << 10;
/// Attempts before a machine starts over; waits 2, 4, 8, 16, 32 s between them.
const ATTEMPTS: u8 = 6;

/// A plan that cannot be rendered. Nothing is served then; the message is for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// A ramdisk without a kernel.
    #[error("the boot plan has no kernel")]
    NoKernel,
    /// A word that iPXE or the kernel would read as something else.
    #[error(
        "kernel parameter number {0} cannot stand in a boot script: one word of printable ASCII without quotes, '$', '\\' or '`' is needed"
    )]
    Param(usize),
    /// Too long for the kernel.
    #[error("the kernel parameters are {0} bytes together; the kernel takes {COMMAND_LINE_MAX}")]
    TooLong(usize),
    /// A script that is none.
    #[error("a custom boot script must begin with #!ipxe and be at most {CUSTOM_MAX} bytes")]
    Custom,
}

/// Whether a word can stand in a script as a kernel parameter.
pub fn is_plain_word(word: &str) -> bool {
    !word.is_empty()
        && word.bytes().all(|c| c.is_ascii_graphic() && !b"\"'\\$`".contains(&c))
        && !word.starts_with('#')
        && !matches!(word, "||" | "&&")
}

/// Renders the script for the machine that asks with this address. `base` is the address of the HTTP service without a
/// slash at its end, for example `http://172.30.0.1:8088`.
pub fn render(plan: &BootPlan, mac: MacAddr, base: &str) -> Result<String, ScriptError> {
    match &plan.what {
        BootWhat::Ramdisk | BootWhat::Discovery => ramdisk(plan, mac, base),
        BootWhat::Local => Ok(local()),
        BootWhat::Custom { script } if script.starts_with("#!ipxe") && script.len() <= CUSTOM_MAX => Ok(script.clone()),
        BootWhat::Custom { .. } => Err(ScriptError::Custom),
    }
}

fn ramdisk(plan: &BootPlan, mac: MacAddr, base: &str) -> Result<String, ScriptError> {
    if plan.kernel.is_none() {
        return Err(ScriptError::NoKernel);
    }
    let mut line = String::new();
    // The EFI stub finds the ramdisk by this name; the BIOS loader hands it over anyway.
    if !plan.layers.is_empty() {
        line.push_str(" initrd=ramdisk");
    }
    for (index, word) in plan.params.iter().enumerate() {
        if !is_plain_word(word) {
            return Err(ScriptError::Param(index + 1));
        }
        line.push(' ');
        line.push_str(word);
    }
    if !plan.params.iter().any(|word| word.starts_with("BOOTIF=")) {
        // Which card this boot came through; the script was given to its address.
        let _ = write!(line, " BOOTIF={mac}");
    }
    if line.len() > COMMAND_LINE_MAX {
        return Err(ScriptError::TooLong(line.len()));
    }
    let who = plan.node.map_or_else(|| "a machine to discover".to_owned(), |node| format!("node {node}"));
    let files = format!("{base}/boot/{}", plan.nonce.reveal());
    let mut script = format!(
        "#!ipxe\n\
         # {who}\n\
         set attempt:int32 0\n\
         set pause:int32 2\n\
         :start\n\
         inc attempt\n\
         imgfree\n\
         kernel {files}/kernel{line} || goto failed\n"
    );
    if !plan.layers.is_empty() {
        let _ = writeln!(script, "initrd --name ramdisk {files}/ramdisk || goto failed");
    }
    // An aborted load (Ctrl-C at the console) ends here too: a machine without a person must not stop at a prompt.
    let _ = write!(
        script,
        "boot || goto failed\n\
         :failed\n\
         iseq ${{attempt}} {ATTEMPTS} && goto over ||\n\
         echo Loading failed, attempt ${{attempt}} of {ATTEMPTS}, next in ${{pause}} s\n\
         sleep ${{pause}}\n\
         inc pause ${{pause}}\n\
         goto start\n\
         :over\n\
         echo Loading failed, starting over\n\
         sleep 10\n\
         reboot ||\n\
         exit 1\n"
    );
    Ok(script)
}

/// On to the machine's own disk. UEFI firmware goes on to its next boot entry when the program ends with an error; a
/// BIOS is asked for its first disk, and for its next boot device if there is none.
fn local() -> String {
    "#!ipxe\n\
     # own disk\n\
     iseq ${platform} efi && exit 1 ||\n\
     sanboot --no-describe --drive 0x80 ||\n\
     exit 1\n"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{FileRef, Nonce};
    use bytes::Bytes;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0xaa, 0, 1]);

    fn plan(params: &[&str]) -> BootPlan {
        BootPlan {
            node: None,
            what: BootWhat::Ramdisk,
            kernel: Some(FileRef::Bytes(Bytes::from_static(b"k"))),
            layers: vec![FileRef::Bytes(Bytes::from_static(b"r"))],
            params: params.iter().map(ToString::to_string).collect(),
            nonce: Nonce::from_stored("0123456789abcdef0123456789abcdef"),
            files: Default::default(),
            macs: vec![],
        }
    }

    #[test]
    fn a_ramdisk_script_loads_kernel_and_ramdisk_of_its_plan_only() {
        let script = render(&plan(&["ipa-api-url=http://172.30.0.1:6385", "quiet"]), MAC, "http://172.30.0.1:8088").unwrap();
        let files = "http://172.30.0.1:8088/boot/0123456789abcdef0123456789abcdef";
        assert!(script.starts_with("#!ipxe\n"));
        assert!(script.contains(&format!(
            "\nkernel {files}/kernel initrd=ramdisk ipa-api-url=http://172.30.0.1:6385 quiet BOOTIF=52:54:00:aa:00:01 || goto failed\n"
        )));
        assert!(script.contains(&format!("\ninitrd --name ramdisk {files}/ramdisk || goto failed\n")));
        assert!(script.contains("\nreboot ||\n"));
    }

    #[test]
    fn no_parameter_becomes_a_command() {
        for hostile in ["a\nshell", "a b", "${net0/mac}", "x\"y", "x'y", "back\\slash", "`id`", "", "||", "&&", "#c", "é", "\u{7f}"] {
            assert_eq!(render(&plan(&["quiet", hostile]), MAC, "http://x"), Err(ScriptError::Param(2)), "{hostile:?}");
        }
    }

    #[test]
    fn what_the_kernel_cannot_take_is_refused() {
        let long = "x".repeat(COMMAND_LINE_MAX);
        assert!(matches!(render(&plan(&[&long]), MAC, "http://x"), Err(ScriptError::TooLong(_))));
        let mut no_kernel = plan(&[]);
        no_kernel.kernel = None;
        assert_eq!(render(&no_kernel, MAC, "http://x"), Err(ScriptError::NoKernel));
    }

    #[test]
    fn a_machine_with_its_own_disk_is_sent_there() {
        let mut own = plan(&[]);
        own.what = BootWhat::Local;
        let script = render(&own, MAC, "http://x").unwrap();
        assert!(script.contains("sanboot") && script.contains("exit 1") && !script.contains("kernel"));
    }

    #[test]
    fn a_custom_script_is_served_as_it_is_or_not_at_all() {
        let mut custom = plan(&[]);
        custom.what = BootWhat::Custom { script: "#!ipxe\nshell\n".into() };
        assert_eq!(render(&custom, MAC, "http://x").unwrap(), "#!ipxe\nshell\n");
        custom.what = BootWhat::Custom { script: "#!/bin/sh\n".into() };
        assert_eq!(render(&custom, MAC, "http://x"), Err(ScriptError::Custom));
    }
}
