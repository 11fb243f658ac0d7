//! Which boot program a client gets: one table from client architecture (RFC 4578, IANA "Processor Architecture
//! Types") to file, and the order in which a client's claims are read.

use crate::dhcp::codec::Packet;

/// How a boot program travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// `siaddr` + file name.
    Tftp,
    /// A URL; the firmware speaks HTTP.
    Http,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootFile {
    /// Architecture number of DHCP option 93.
    pub arch: u16,
    /// How the firmware fetches it.
    pub transport: Transport,
    /// File name in the folders of boot programs.
    pub program: &'static str,
}

const fn row(arch: u16, transport: Transport, program: &'static str) -> BootFile {
    BootFile { arch, transport, program }
}

/// The boot files by architecture. EDK2 on x64 says 7, other firmware and the RFC's errata say 9.
pub const BOOT_FILES: [BootFile; 6] = [
    row(0, Transport::Tftp, "undionly.kpxe"),
    row(7, Transport::Tftp, "snponly.efi"),
    row(9, Transport::Tftp, "snponly.efi"),
    row(11, Transport::Tftp, "snponly-arm64.efi"),
    row(16, Transport::Http, "snponly.efi"),
    row(19, Transport::Http, "snponly-arm64.efi"),
];

/// What a DHCP client is, as far as booting is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// iPXE: wants a script. Never gets a boot program again, which would loop.
    Ipxe,
    /// Firmware that loads a program.
    Firmware(BootFile),
    /// Firmware of an architecture for which there is no program.
    Unsupported,
    /// An operating system or anything else that only wants an address.
    Plain,
}

impl Client {
    /// Reads the client's claims in this order: HTTP boot firmware, then iPXE, then the architecture.
    pub fn of(packet: &Packet) -> Self {
        let class = packet.vendor_class();
        let http = class.starts_with(b"HTTPClient");
        if !http && packet.is_ipxe() {
            return Self::Ipxe;
        }
        let pxe = class.starts_with(b"PXEClient");
        if !http && !pxe {
            return Self::Plain;
        }
        let mut archs = packet.architectures();
        if archs.is_empty() {
            // Firmware before RFC 4578 says it in the class only; a bare class means a BIOS.
            archs.push(arch_in_class(class).unwrap_or(if http { 16 } else { 0 }));
        }
        let wanted = if http { Transport::Http } else { Transport::Tftp };
        archs
            .iter()
            .find_map(|arch| BOOT_FILES.iter().find(|row| row.arch == *arch && (row.transport == wanted || !http)))
            .map_or(Self::Unsupported, |row| Self::Firmware(*row))
    }
}

/// The number in `PXEClient:Arch:00007:UNDI:003000`.
fn arch_in_class(class: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(class).ok()?;
    let mut parts = text.split(':').skip(1);
    (parts.next()? == "Arch").then_some(())?;
    parts.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::codec::{Packet, code};

    fn client(class: &[u8], archs: &[u16], ipxe: bool) -> Client {
        let mut packet = Packet::request(1, crate::MacAddr([2, 0, 0, 0, 0, 1]));
        if !class.is_empty() {
            packet.options.set(code::VENDOR_CLASS, class);
        }
        if !archs.is_empty() {
            let raw: Vec<u8> = archs.iter().flat_map(|a| a.to_be_bytes()).collect();
            packet.options.set(code::ARCHITECTURE, &raw);
        }
        if ipxe {
            packet.options.set(code::USER_CLASS, b"iPXE");
        }
        Client::of(&packet)
    }

    #[test]
    fn every_row_of_the_table_is_reached_and_no_architecture_twice() {
        for (index, row) in BOOT_FILES.iter().enumerate() {
            let class: &[u8] = match row.transport {
                Transport::Tftp => b"PXEClient:Arch:x",
                Transport::Http => b"HTTPClient:Arch:x",
            };
            assert_eq!(client(class, &[row.arch], false), Client::Firmware(*row));
            assert!(BOOT_FILES.iter().skip(index + 1).all(|other| other.arch != row.arch));
        }
    }

    #[test]
    fn ipxe_gets_a_script_whatever_its_architecture() {
        assert_eq!(client(b"PXEClient:Arch:00007:UNDI:003010", &[7], true), Client::Ipxe);
        assert_eq!(client(b"PXEClient:Arch:00000:UNDI:002001", &[0], true), Client::Ipxe);
    }

    #[test]
    fn the_first_supported_of_several_architectures_counts() {
        let Client::Firmware(row) = client(b"PXEClient", &[6, 9], false) else { panic!("supported by its second architecture") };
        assert_eq!(row.arch, 9);
    }

    #[test]
    fn an_old_client_says_its_architecture_in_the_class_only() {
        let Client::Firmware(row) = client(b"PXEClient:Arch:00007:UNDI:003000", &[], false) else {
            panic!("the class names a supported architecture")
        };
        assert_eq!(row.program, "snponly.efi");
        let Client::Firmware(row) = client(b"PXEClient", &[], false) else { panic!("a bare class is a BIOS") };
        assert_eq!(row.arch, 0);
    }

    #[test]
    fn an_operating_system_is_not_offered_a_boot_file() {
        assert_eq!(client(b"udhcp 1.35.0", &[], false), Client::Plain);
        assert_eq!(client(b"", &[], false), Client::Plain);
        assert_eq!(client(b"PXEClient", &[6], false), Client::Unsupported);
    }
}
