//! `node deploy` and `node rebuild`: what to put on the disk, and the verb.

use serde_json::{Map, Value, json};

use crate::args::node::{Deploy, Rebuild};
use crate::client::Request;
use crate::config_drive;
use crate::error::CliError;
use crate::hints;
use crate::pairs::{self, Patch};

use super::Session;
use super::provision::{self, DEPLOY, REBUILD, Target};

/// Members of instance_info that belong to an image; those of an older image must not stay with a new one.
const IMAGE_MEMBERS: &[&str] = &[
    "image_source",
    "image_checksum",
    "image_os_hash_algo",
    "image_os_hash_value",
    "image_disk_format",
    "image_type",
    "image_properties",
    "kernel",
    "ramdisk",
];

/// The image that is asked for, as members of instance_info; empty when none is.
fn image(args: &Deploy) -> Result<Map<String, Value>, CliError> {
    let mut members = Map::new();
    let Some(url) = &args.image else { return Ok(members) };
    if !url.contains("://") {
        return Err(CliError::Usage(format!(
            "--image: `{url}` is no URL; the service fetches the image itself, so serve it (http://, https://) or use file:///PATH for a \
             file on the service's own host"
        )));
    }
    members.insert("image_source".into(), url.clone().into());
    if let Some(format) = &args.image_format {
        members.insert("image_disk_format".into(), format.clone().into());
    }
    if let Some(given) = &args.checksum {
        checksum(given, &mut members)?;
    }
    Ok(members)
}

fn checksum(given: &str, members: &mut Map<String, Value>) -> Result<(), CliError> {
    if given.contains("://") {
        members.insert("image_checksum".into(), given.into());
        return Ok(());
    }
    let (named, hex) = given.split_once(':').map_or((None, given), |(name, hex)| (Some(name.to_ascii_lowercase()), hex));
    let by_length = match hex.len() {
        32 => "md5",
        64 => "sha256",
        96 => "sha384",
        128 => "sha512",
        _ => "",
    };
    let algorithm = named.unwrap_or_else(|| by_length.to_owned());
    if !hex.chars().all(|c| c.is_ascii_hexdigit()) || by_length.is_empty() || algorithm != by_length {
        return Err(CliError::Usage(format!(
            "--checksum: `{given}` is neither sha256:HEX (64 digits), sha512:HEX (128 digits), nor the URL of a checksum file"
        )));
    }
    let hex = hex.to_ascii_lowercase();
    if algorithm == "md5" {
        members.insert("image_checksum".into(), hex.into());
    } else {
        members.insert("image_os_hash_algo".into(), algorithm.into());
        members.insert("image_os_hash_value".into(), hex.into());
    }
    Ok(())
}

/// The change of instance_info that an image and a root device ask for.
fn instance_patch(now: &Value, image: Map<String, Value>, root_device: Map<String, Value>) -> Patch {
    let mut patch = Patch::default();
    if !image.is_empty() {
        for name in IMAGE_MEMBERS.iter().filter(|name| now.get(**name).is_some() && !image.contains_key(**name)) {
            patch.remove(&format!("instance_info/{name}"));
        }
        patch.set_members("instance_info", image);
    }
    if !root_device.is_empty() {
        patch.set("instance_info/root_device", Value::Object(root_device));
    }
    patch
}

/// `node deploy`.
pub async fn deploy(session: &Session, args: Deploy) -> Result<(), CliError> {
    // Everything that can be wrong with the arguments is found before the first node is touched.
    let image = image(&args)?;
    let root_device = pairs::object(&args.root_device)?;
    let body = body(&DEPLOY, args.deploy_steps.as_deref(), &args.config_drive)?;
    for node in &args.verb.nodes.nodes {
        let seen = session.client.get(Request::to(&["nodes", node])).await?;
        let state = seen.text("provision_state").unwrap_or_default();
        if let Some(next) = hints::unfit_for_deployment(node, state) {
            return Err(CliError::WrongState { node: node.clone(), state: state.to_owned(), hint: next });
        }
        if !image.is_empty() || !root_device.is_empty() {
            let now = seen.get("instance_info").cloned().unwrap_or_default();
            let patch = instance_patch(&now, image.clone(), root_device.clone()).body();
            session.client.patch(Request::to(&["nodes", node]).body(&patch)).await?;
        }
    }
    provision::act(session, &DEPLOY, &body, &args.verb).await
}

/// `node rebuild`.
pub async fn rebuild(session: &Session, args: Rebuild) -> Result<(), CliError> {
    let body = body(&REBUILD, args.deploy_steps.as_deref(), &args.config_drive)?;
    provision::act(session, &REBUILD, &body, &args.verb).await
}

fn body(target: &Target, steps: Option<&str>, drive: &crate::args::node::ConfigDriveArgs) -> Result<Value, CliError> {
    let mut body = json!({"target": target.name});
    if let Some(drive) = config_drive::of(drive)? {
        body["configdrive"] = drive;
    }
    if let Some(steps) = steps {
        body["deploy_steps"] = provision::steps(steps, "deploy_steps")?;
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command, node::NodeCommand};

    fn parse(words: &[&str]) -> Deploy {
        let cli = Cli::try_parse_from(["baremetal", "node", "deploy", "n1"].iter().chain(words)).expect("parsed");
        let Command::Node(command) = cli.command else { panic!("a node command") };
        let NodeCommand::Deploy(args) = *command else { panic!("deploy") };
        *args
    }

    #[test]
    fn a_checksum_is_told_by_name_length_or_url() {
        let of = |given: &str| {
            let args = parse(&["--image", "http://h/i", "--checksum", given]);
            image(&args).map(Value::Object)
        };
        let (sha256, sha512, md5) = ("A".repeat(64), "b".repeat(128), "c".repeat(32));
        let expected = json!({"image_source": "http://h/i", "image_os_hash_algo": "sha256", "image_os_hash_value": sha256.to_lowercase()});
        assert_eq!(of(&format!("sha256:{sha256}")).expect("good"), expected);
        assert_eq!(of(&sha256).expect("good"), expected);
        assert_eq!(of(&sha512).expect("good")["image_os_hash_algo"], json!("sha512"));
        assert_eq!(of(&md5).expect("good")["image_checksum"], json!(md5));
        assert_eq!(of("https://h/SHA256SUMS").expect("good")["image_checksum"], json!("https://h/SHA256SUMS"));
        for bad in ["sha256:abc", "sha512:aa", "zz", &format!("sha512:{sha256}"), &"g".repeat(64)] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_of_an_older_image_stays_with_a_new_one() {
        let args = parse(&["--image", "http://h/new", "--image-format", "raw", "--root-device", "serial=S1", "--root-device", "size=10"]);
        let now = json!({"image_source": "http://h/old", "image_checksum": "x", "capabilities": {"a": "b"}});
        let patch = instance_patch(&now, image(&args).expect("good"), pairs::object(&args.root_device).expect("good"));
        assert_eq!(
            patch.body(),
            json!([
                {"op": "remove", "path": "/instance_info/image_checksum"},
                {"op": "add", "path": "/instance_info/image_disk_format", "value": "raw"},
                {"op": "add", "path": "/instance_info/image_source", "value": "http://h/new"},
                {"op": "add", "path": "/instance_info/root_device", "value": {"serial": "S1", "size": 10}}
            ])
        );
    }

    #[test]
    fn a_path_is_no_image() {
        assert!(image(&parse(&["--image", "/srv/image.raw"])).expect_err("no URL").to_string().contains("file:///"));
    }

    #[test]
    fn wait_takes_a_time_or_none() {
        assert_eq!(parse(&[]).verb.wait.wait, None);
        assert_eq!(parse(&["--wait"]).verb.wait.wait, Some(0));
        assert_eq!(parse(&["--wait", "30"]).verb.wait.wait, Some(30));
    }
}
