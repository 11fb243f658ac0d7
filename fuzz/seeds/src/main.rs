//! Writes the corpora to begin with from the recorded packets of the crates' tests: `cargo run -p seeds`.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Recorded packets, and the targets that read packets of that kind.
const SOURCES: &[(&str, &str, &[&str])] = &[
    ("pxe/tests/data", "dhcp", &["dhcp_codec", "dhcp_decide", "agent_dhcp"]),
    ("pxe/tests/data", "tftp", &["tftp"]),
    ("drivers/tests/data/ipmi", "", &["ipmi_packet", "ipmi_handshake", "ipmi_session"]),
];

/// Short examples of the text formats.
const TEXTS: &[(&str, &[&str])] = &[
    ("http_range", &["\0\0\0\0\0\0\x10\0bytes=0-", "\0\0\0\0\0\0\x10\0bytes=100-199", "\0\0\0\0\0\0\x10\0bytes=-5"]),
    ("router_solicitation", &["\u{85}", "\0\0\0\0\0\0\0\0"]),
    (
        "api_patch",
        &[
            "\x62[{\"op\":\"add\",\"path\":\"/extra/a~1b\",\"value\":{\"c\":[1,null]}}]",
            "\x30[{\"op\":\"replace\",\"path\":\"/driver_info/ipmi_password\",\"value\":\"x\"}]",
            "\x30[{\"op\":\"remove\",\"path\":\"/properties/cpus\"},{\"op\":\"add\",\"path\":\"/instance_uuid\",\"value\":null}]",
        ],
    ),
    ("kernel_command_line", &["ipa-api-url=http://172.30.0.1:6385 BOOTIF=01-52-54-00-aa-00-01 a=\"b c\" ipa-debug=1 quiet"]),
    (
        "checksum_file",
        &["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  image.raw\n", "SHA512 (image.raw) = 00\n# comment\n"],
    ),
    (
        "redfish_resource",
        &[
            r#"{"@odata.id":"/redfish/v1/Systems/1","Boot":{"BootSourceOverrideTarget":"Pxe"},"MemorySummary":{"TotalSystemMemoryGiB":"4"}}"#,
            r#"{"error":{"code":"Base.1.0.GeneralError","message":"see","@Message.ExtendedInfo":[{"MessageId":"x","Message":"y"}]}}"#,
            r#"{"Members":[{"@odata.id":"/a"}],"Links":{"ManagedBy":[{"@odata.id":"/redfish/v1/Managers/1"}]}}"#,
        ],
    ),
    (
        "agent_types",
        &[
            r#"{"inventory":{"interfaces":[{"name":"eth0","mac_address":"52:54:00:aa:00:01","has_carrier":true}],"disks":[],"cpu":{"count":2}},"boot_interface":"52:54:00:aa:00:01"}"#,
        ],
    ),
    (
        "inspection_hooks",
        &[
            r#"{"inventory":{"interfaces":[{"name":"eth0","mac_address":"52:54:00:aa:00:01","ipv4_address":"172.30.0.9"}],"cpu":{"architecture":"x86_64","count":2},"memory":{"physical_mb":512},"boot":{"pxe_interface":"52:54:00:aa:00:01"}},"plugin_data":{"root_disk":{"size":2147483648}}}"#,
        ],
    ),
];

fn main() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the fuzz crate is above");
    let root = here.parent().expect("the workspace is above");
    let mut written = 0;
    let mut put = |target: &str, name: String, bytes: &[u8]| {
        let folder = here.join("corpus").join(target);
        fs::create_dir_all(&folder).expect("the corpus can be written");
        fs::write(folder.join(name), bytes).expect("the corpus can be written");
        written += 1;
    };
    for (folder, proto, targets) in SOURCES {
        for file in fs::read_dir(root.join(folder)).expect("the tests have recorded packets").flatten() {
            let text = fs::read_to_string(file.path()).expect("a readable file");
            let mut packets = Vec::new();
            collect(&serde_json::from_str(&text).expect("recorded packets are JSON"), proto, &mut packets);
            for (number, packet) in packets.iter().enumerate() {
                for target in *targets {
                    put(target, format!("{}-{number}", file.file_name().to_string_lossy()), packet);
                }
            }
        }
    }
    for (target, texts) in TEXTS {
        for (number, text) in texts.iter().enumerate() {
            put(target, format!("text-{number}"), text.as_bytes());
        }
    }
    for (name, bytes) in images() {
        put("image", name.to_owned(), &bytes);
    }
    println!("{written} files");
}

/// Every `hex` below `value` in an object of this protocol.
fn collect(value: &Value, proto: &str, into: &mut Vec<Vec<u8>>) {
    match value {
        Value::Object(map) => {
            let fits = proto.is_empty() || map.get("proto").is_none_or(|p| p == proto);
            if let Some(bytes) = map.get("hex").and_then(Value::as_str).and_then(|text| hex::decode(text).ok())
                && fits
            {
                into.push(bytes);
            }
            map.values().for_each(|inner| collect(inner, proto, into));
        }
        Value::Array(list) => list.iter().for_each(|inner| collect(inner, proto, into)),
        _ => {}
    }
}

/// A raw image with a boot sector, and a qcow2 of four small clusters.
fn images() -> Vec<(&'static str, Vec<u8>)> {
    let mut raw = vec![0; 4096];
    raw[510..512].copy_from_slice(&[0x55, 0xaa]);
    let mut qcow2 = vec![0; 5 * 512];
    let mut at = |offset: usize, bytes: &[u8]| qcow2[offset..offset + bytes.len()].copy_from_slice(bytes);
    at(0, b"QFI\xfb\0\0\0\x03");
    at(20, &9_u32.to_be_bytes());
    at(24, &1024_u64.to_be_bytes());
    at(36, &1_u32.to_be_bytes());
    at(40, &512_u64.to_be_bytes());
    at(96, &4_u32.to_be_bytes());
    at(100, &104_u32.to_be_bytes());
    at(512, &(1_u64 << 63 | 1024).to_be_bytes());
    at(1024, &(1_u64 << 63 | 1536).to_be_bytes());
    at(1032, &(1_u64 << 63 | 2048).to_be_bytes());
    at(1536, &[0xaa; 512]);
    vec![("raw", raw), ("qcow2", qcow2), ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0".to_vec())]
}
