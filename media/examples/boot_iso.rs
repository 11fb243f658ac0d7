//! Makes a UEFI boot CD: `boot_iso LOADER GRUB KERNEL RAMDISK COMMAND-LINE OUT`. The CD itself carries a config drive's
//! files, so that a started system can show that it reads the medium.

use std::fs::File;
use std::io;

use bessemer_media::tree::{Streamed, Tree};
use bessemer_media::{BootMedia, boot_iso};

fn file(path: &str) -> io::Result<Streamed<impl Fn() -> io::Result<File>>> {
    let len = std::fs::metadata(path)?.len();
    let path = path.to_owned();
    Ok(Streamed { len, open: move || File::open(&path) })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [loader, grub, kernel, ramdisk, command_line, out] = args.as_slice() else {
        return Err("usage: boot_iso LOADER GRUB KERNEL RAMDISK COMMAND-LINE OUT".into());
    };
    let (loader, grub, kernel, ramdisk) = (file(loader)?, file(grub)?, file(kernel)?, file(ramdisk)?);
    let mut files = Tree::new();
    files.add("openstack/latest/meta_data.json", br#"{"uuid": "from-the-medium"}"#.to_vec())?;
    files.add("a-rather-long-file-name-in-lower-case.txt", b"long name\n".to_vec())?;
    let media = BootMedia {
        loader: &loader,
        loader_name: "BOOTX64.EFI",
        grub: Some(("grubx64.efi", &grub)),
        kernel: &kernel,
        ramdisks: vec![&ramdisk],
        command_line,
        files,
        label: "config-2",
    };
    let bytes = boot_iso(media, &mut io::BufWriter::new(File::create(out)?))?;
    println!("{bytes} bytes");
    Ok(())
}
