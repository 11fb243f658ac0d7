//! Which format an image really has, and whether that is permitted (`security.md` section 6: format safety).
//!
//! Looks only at the first MiB. Content that is more than one format at once is refused, and an image that
//! was declared raw is never treated as anything else.

use super::ImageError;

/// Bytes from the start of an image that detection wants to see.
pub const HEAD: usize = 1 << 20;

/// A format that detection knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// No known structure, or a disk with an MBR only.
    Raw,
    /// Raw disk with a GUID partition table.
    Gpt,
    /// QEMU copy-on-write, version 2 or 3.
    Qcow2,
    /// ISO 9660.
    Iso,
    /// QEMU copy-on-write, version 1.
    Qcow1,
    /// QEMU enhanced disk.
    Qed,
    /// VMware disk.
    Vmdk,
    /// Hyper-V disk, newer.
    Vhdx,
    /// Hyper-V disk, older.
    Vhd,
    /// VirtualBox disk.
    Vdi,
    /// Parallels disk.
    Parallels,
    /// LUKS container.
    Luks,
}

impl Format {
    /// Name as in `disk_format`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Gpt => "gpt",
            Self::Qcow2 => "qcow2",
            Self::Iso => "iso",
            Self::Qcow1 => "qcow",
            Self::Qed => "qed",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
            Self::Vhd => "vpc",
            Self::Vdi => "vdi",
            Self::Parallels => "parallels",
            Self::Luks => "luks",
        }
    }
}

/// Detects the format of an image by its first bytes (up to [`HEAD`]).
///
/// # Errors
/// When the content is valid as more than one format.
pub fn detect(head: &[u8]) -> Result<Format, ImageError> {
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    let mut found = Vec::new();
    let mut add = |is: bool, format: Format| {
        if is {
            found.push(format);
        }
    };
    let qcow_version = head.get(4..8).and_then(|v| v.try_into().ok()).map(u32::from_be_bytes);
    add(at(0, b"QFI\xfb") && qcow_version == Some(1), Format::Qcow1);
    add(at(0, b"QFI\xfb") && qcow_version != Some(1), Format::Qcow2);
    add(at(0, b"QED\0"), Format::Qed);
    add(at(0, b"KDMV") || at(0, b"COWD") || at(0, b"# Disk DescriptorFile"), Format::Vmdk);
    add(at(0, b"vhdxfile"), Format::Vhdx);
    add(at(0, b"conectix"), Format::Vhd);
    add(at(0x40, &[0x7f, 0x10, 0xda, 0xbe]), Format::Vdi);
    add(at(0, b"WithoutFreeSpace") || at(0, b"WithouFreSpacExt"), Format::Parallels);
    add(at(0, b"LUKS\xba\xbe"), Format::Luks);
    add(at(0x8001, b"CD001"), Format::Iso);
    add(at(510, &[0x55, 0xaa]) && (at(512, b"EFI PART") || at(4096, b"EFI PART")), Format::Gpt);
    match found.as_slice() {
        [] => Ok(Format::Raw),
        [one] => Ok(*one),
        // A hybrid ISO carries a GPT; it counts as what it mainly is.
        [Format::Iso, Format::Gpt] => Ok(Format::Iso),
        several => {
            let names: Vec<&str> = several.iter().map(|format| format.name()).collect();
            Err(ImageError::Format(format!(
                "its content is valid as several formats at once ({}), which is a known attack",
                names.join(", ")
            )))
        }
    }
}

/// What formats an operator permits.
#[derive(Clone, Debug)]
pub struct FormatRules {
    /// Names of permitted formats (`permitted_image_formats`).
    pub permitted: Vec<String>,
    /// Whether content is inspected at all (`disable_deep_image_inspection` turned round).
    pub inspect: bool,
}

impl Default for FormatRules {
    fn default() -> Self {
        Self { permitted: ["raw", "gpt", "qcow2"].map(str::to_owned).to_vec(), inspect: true }
    }
}

/// Decides how an image is written: as qcow2 (`Format::Qcow2`) or byte by byte (`Format::Raw`, `Format::Gpt`).
///
/// # Errors
/// When the format is not permitted, is not the declared one, or cannot be written.
pub fn decide(head: &[u8], declared: Option<&str>, rules: &FormatRules) -> Result<Format, ImageError> {
    let declared = declared.map(str::trim).filter(|name| !name.is_empty() && *name != "unknown");
    if !rules.inspect {
        return match declared {
            Some("qcow2") => Ok(Format::Qcow2),
            None | Some("raw" | "gpt") => Ok(Format::Raw),
            Some(other) => Err(ImageError::Format(format!("format {other:?} is not built: use raw or qcow2"))),
        };
    }
    let detected = detect(head)?;
    // A raw disk may hold a GPT: it is still written byte by byte.
    let matches = |name: &str| name == detected.name() || (name == "raw" && detected == Format::Gpt);
    if let Some(declared) = declared
        && !matches(declared)
    {
        return Err(ImageError::Format(format!(
            "it is declared as {declared} but its content is {}: correct disk_format or the image",
            detected.name()
        )));
    }
    if !rules.permitted.iter().any(|name| matches(name)) {
        return Err(ImageError::Format(format!(
            "its content is {}, and only {} are permitted (permitted_image_formats)",
            detected.name(),
            rules.permitted.join(", ")
        )));
    }
    match detected {
        Format::Raw | Format::Gpt | Format::Qcow2 => Ok(detected),
        other => Err(ImageError::Format(format!("writing {} is not built: convert the image to raw or qcow2", other.name()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        for (offset, magic) in parts {
            head[*offset..offset + magic.len()].copy_from_slice(magic);
        }
        head
    }

    const GPT: [(usize, &[u8]); 2] = [(510, &[0x55, 0xaa]), (512, b"EFI PART")];

    #[test]
    fn formats_are_told_by_content() {
        let cases: [(Vec<u8>, Format); 8] = [
            (with(&[]), Format::Raw),
            (with(&[(510, &[0x55, 0xaa])]), Format::Raw),
            (with(&GPT), Format::Gpt),
            (with(&[(0, b"QFI\xfb\0\0\0\x03")]), Format::Qcow2),
            (with(&[(0, b"QFI\xfb\0\0\0\x01")]), Format::Qcow1),
            (with(&[(0, b"KDMV")]), Format::Vmdk),
            (with(&[(0x8001, b"CD001")]), Format::Iso),
            (with(&[GPT[0], GPT[1], (0x8001, b"CD001")]), Format::Iso),
        ];
        for (head, format) in cases {
            assert_eq!(detect(&head).unwrap(), format);
        }
        assert_eq!(detect(&[]).unwrap(), Format::Raw);
    }

    #[test]
    fn content_of_two_formats_is_refused() {
        assert!(detect(&with(&[(0, b"QFI\xfb\0\0\0\x03"), (0x8001, b"CD001")])).is_err());
    }

    #[test]
    fn the_declared_format_must_be_the_real_one() {
        let rules = FormatRules::default();
        let qcow2 = with(&[(0, b"QFI\xfb\0\0\0\x03")]);
        assert_eq!(decide(&qcow2, Some("qcow2"), &rules).unwrap(), Format::Qcow2);
        assert_eq!(decide(&qcow2, None, &rules).unwrap(), Format::Qcow2);
        assert!(decide(&qcow2, Some("raw"), &rules).is_err());
        assert!(decide(&with(&[]), Some("qcow2"), &rules).is_err());
        assert_eq!(decide(&with(&GPT), Some("raw"), &rules).unwrap(), Format::Gpt);
        assert!(decide(&with(&[]), Some("gpt"), &rules).is_err());
    }

    #[test]
    fn a_format_outside_the_permitted_list_is_refused() {
        let rules = FormatRules { permitted: vec!["raw".into()], inspect: true };
        assert!(decide(&with(&[(0, b"QFI\xfb\0\0\0\x03")]), Some("qcow2"), &rules).is_err());
        assert!(decide(&with(&[(0x8001, b"CD001")]), None, &FormatRules::default()).is_err());
        let everything = FormatRules { permitted: vec!["vmdk".into()], inspect: true };
        assert!(decide(&with(&[(0, b"KDMV")]), Some("vmdk"), &everything).is_err());
    }
}
