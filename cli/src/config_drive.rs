//! The config drive of a deployment, from what the command line names.

use std::path::Path;

use base64::Engine as _;
use bessemer_media::{Tree, config_drive, encode};
use serde_json::{Value, json};

use crate::args::node::ConfigDriveArgs;
use crate::error::CliError;
use crate::structured;

/// Largest sum of the files in a directory, in bytes. Config drives travel through the API whole.
const MAX_FILES: u64 = 64 << 20;

/// The config drive as the API takes it, if one was asked for.
pub fn of(args: &ConfigDriveArgs) -> Result<Option<Value>, CliError> {
    match &args.config_drive {
        Some(given) => from_argument(given).map(Some),
        None => from_parts(args),
    }
}

/// From the single files that make up a drive: an object, of which the service builds the drive.
fn from_parts(args: &ConfigDriveArgs) -> Result<Option<Value>, CliError> {
    let object = |path: &Path| match structured::read(path)? {
        object @ Value::Object(_) => Ok(object),
        _ => Err(CliError::File { path: path.to_owned(), what: "it holds no object".into() }),
    };
    let meta_data = args.meta_data.as_deref().map(object).transpose()?;
    let network_data = args.network_data.as_deref().map(object).transpose()?;
    let vendor_data = args.vendor_data.as_deref().map(object).transpose()?;
    let user_data = args.user_data.as_deref().map(structured::bytes).transpose()?;
    if meta_data.is_none() && network_data.is_none() && vendor_data.is_none() && user_data.is_none() {
        return Ok(None);
    }
    let user_data = match user_data.map(String::from_utf8) {
        Some(Ok(text)) => Some(text),
        None => None,
        // JSON cannot carry bytes (compressed user data): the drive is built here.
        Some(Err(bytes)) => {
            let meta_data = meta_data.unwrap_or_else(|| json!({}));
            let image =
                config_drive(&meta_data, Some(bytes.as_bytes()), network_data.as_ref(), vendor_data.as_ref()).and_then(|i| encode(&i));
            return image.map(|text| Some(text.into())).map_err(|e| CliError::Usage(e.to_string()));
        }
    };
    let mut drive = json!({});
    for (name, part) in
        [("meta_data", meta_data), ("network_data", network_data), ("vendor_data", vendor_data), ("user_data", user_data.map(Value::from))]
    {
        if let Some(part) = part {
            drive[name] = part;
        }
    }
    Ok(Some(drive))
}

/// From `--config-drive`: a JSON object, standard input, a URL, a directory or a file.
fn from_argument(given: &str) -> Result<Value, CliError> {
    if let Ok(object @ Value::Object(_)) = serde_json::from_str(given) {
        return Ok(object);
    }
    if given == "-" {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().take(MAX_FILES + 1).read_to_end(&mut bytes);
        read.map_err(|e| CliError::Usage(format!("--config-drive: standard input: {e}")))?;
        return from_bytes(&bytes).map_err(|what| CliError::Usage(format!("--config-drive: standard input: {what}")));
    }
    let path = Path::new(given);
    if path.is_dir() {
        return from_directory(path);
    }
    if path.is_file() {
        return from_bytes(&structured::bytes(path)?).map_err(|what| CliError::File { path: path.to_owned(), what });
    }
    if given.contains("://") {
        return Ok(given.into());
    }
    let base64: String = given.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    if base64.len() > 64 && base64::engine::general_purpose::STANDARD.decode(&base64).is_ok_and(|bytes| is_image(&bytes)) {
        return Ok(base64.into());
    }
    Err(CliError::Usage(format!("--config-drive: `{given}` is no file, directory, URL or JSON object")))
}

/// From the content of a file: a JSON object, an image, a gzipped image, or the base64 form of either.
fn from_bytes(bytes: &[u8]) -> Result<Value, String> {
    if bytes.len() as u64 > MAX_FILES {
        return Err(format!("it has more than {MAX_FILES} bytes"));
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(base64::engine::general_purpose::STANDARD.encode(bytes).into());
    }
    if is_image(bytes) {
        return encode(bytes).map(Value::from).map_err(|e| e.to_string());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no image (ISO 9660 or FAT), JSON object, or base64 text".to_owned())?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|e| format!("no JSON: {e}"));
    }
    let base64: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    match base64::engine::general_purpose::STANDARD.decode(&base64) {
        Ok(bytes) if is_image(&bytes) => Ok(base64.into()),
        _ => Err("it is no image (ISO 9660 or FAT), JSON object, or base64 text of a gzipped image".to_owned()),
    }
}

/// Whether bytes are gzip, an ISO 9660 volume or a FAT boot sector.
fn is_image(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b]) || bytes.get(0x8001..0x8006) == Some(b"CD001") || bytes.get(510..512) == Some(&[0x55, 0xaa])
}

/// From a directory: its files as they are, on a medium labelled config-2.
fn from_directory(root: &Path) -> Result<Value, CliError> {
    let mut tree = Tree::new();
    let mut total = 0;
    add_files(&mut tree, root, "", &mut total)?;
    let bad = |what: String| CliError::File { path: root.to_owned(), what };
    let image = bessemer_media::config_drive::from_tree(&tree).map_err(|e| bad(e.to_string()))?;
    encode(&image).map(Value::from).map_err(|e| bad(e.to_string()))
}

fn add_files(tree: &mut Tree<'_>, folder: &Path, inside: &str, total: &mut u64) -> Result<(), CliError> {
    let bad = |path: &Path, what: String| CliError::File { path: path.to_owned(), what };
    for entry in std::fs::read_dir(folder).map_err(|e| bad(folder, e.to_string()))? {
        let entry = entry.map_err(|e| bad(folder, e.to_string()))?;
        let path = entry.path();
        let name = entry.file_name().into_string().map_err(|_| bad(&path, "its name is no UTF-8 text".into()))?;
        let inside = if inside.is_empty() { name } else { format!("{inside}/{name}") };
        let about = std::fs::metadata(&path).map_err(|e| bad(&path, e.to_string()))?;
        if about.is_dir() {
            // A link back up would go on for ever; the medium's own limit on depth ends it.
            if inside.matches('/').count() >= bessemer_media::tree::MAX_DEPTH {
                return Err(bad(&path, "it lies too deep for a config drive".into()));
            }
            add_files(tree, &path, &inside, total)?;
        } else {
            let bytes = structured::bytes(&path)?;
            *total += bytes.len() as u64;
            if *total > MAX_FILES {
                return Err(bad(folder, format!("its files have more than {MAX_FILES} bytes")));
            }
            tree.add(&inside, bytes).map_err(|e| bad(&path, e.to_string()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bessemer_media::decode;

    fn image_of(value: &Value) -> Vec<u8> {
        decode(value.as_str().expect("text"), 1 << 24).expect("an image")
    }

    #[test]
    fn every_form_of_a_drive_is_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let latest = folder.path().join("drive/openstack/latest");
        std::fs::create_dir_all(&latest).expect("made");
        std::fs::write(latest.join("meta_data.json"), r#"{"uuid": "token-1"}"#).expect("written");
        let directory = folder.path().join("drive");
        let built = from_argument(directory.to_str().expect("a path")).expect("built");
        let image = image_of(&built);
        assert!(is_image(&image));
        assert!(image.windows(7).any(|part| part == b"token-1"));

        for (name, bytes) in [("image.iso", image.clone()), ("text", built.as_str().expect("text").as_bytes().to_vec())] {
            let file = folder.path().join(name);
            std::fs::write(&file, bytes).expect("written");
            let again = from_argument(file.to_str().expect("a path")).expect("taken");
            assert_eq!(image_of(&again), image, "{name}");
        }
        assert_eq!(from_argument(built.as_str().expect("text")).expect("taken"), built);
        assert_eq!(from_argument(r#"{"meta_data": {}}"#).expect("taken"), json!({"meta_data": {}}));
        assert_eq!(from_argument("http://h/drive").expect("taken"), json!("http://h/drive"));
        assert!(from_argument("/nowhere").is_err());
    }

    #[test]
    fn single_files_become_an_object_and_bytes_become_an_image() {
        let folder = tempfile::tempdir().expect("a folder");
        let (user, meta) = (folder.path().join("user"), folder.path().join("meta.yaml"));
        std::fs::write(&user, "#!/bin/sh\n").expect("written");
        std::fs::write(&meta, "uuid: token-1\nhostname: h\n").expect("written");
        let mut args = ConfigDriveArgs { user_data: Some(user.clone()), meta_data: Some(meta), ..Default::default() };
        assert_eq!(of(&args).expect("made"), Some(json!({"meta_data": {"uuid": "token-1", "hostname": "h"}, "user_data": "#!/bin/sh\n"})));
        std::fs::write(&user, [0x1f, 0x8b, 0xff, 0x00]).expect("written");
        args.user_data = Some(user);
        let image = image_of(&of(&args).expect("made").expect("a drive"));
        assert!(image.windows(7).any(|part| part == b"token-1"));
        assert_eq!(of(&ConfigDriveArgs::default()).expect("nothing"), None);
    }
}
