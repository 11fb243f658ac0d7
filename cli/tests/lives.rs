//! Whole lives of fake machines by our program, against the real daemon.

mod support;

use serde_json::json;
use support::Service;

const SHA: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn a_machine_lives_from_enrolment_to_deletion() {
    let service = Service::start(&[]);
    let secret = service.folder.path().join("password");
    std::fs::write(&secret, "hunter2\n").expect("written");
    let given = format!("power_password=@{}", secret.display());

    let node = service.json(&[
        "node",
        "enroll",
        "--driver",
        "fake-hardware",
        "--name",
        "m1",
        "--mac",
        "52:54:00:00:00:01",
        "--mac",
        "52-54-00-00-00-02",
        "--property",
        "cpus=4",
        "--driver-info",
        &given,
        "--no-provide",
    ]);
    assert_eq!(node["provision_state"], json!("manageable"));
    assert_eq!(node["driver_info"], json!({"power_password": "******"}));
    assert!(node["inspection_finished_at"].is_string());
    // Again, to the end: what was done is not done again.
    let node = service.json(&["node", "enroll", "--driver", "fake-hardware", "--name", "m1", "--mac", "52:54:00:00:00:01"]);
    assert_eq!(node["provision_state"], json!("available"));
    let mut macs: Vec<String> =
        service.ok(&["port", "list", "--node", "m1", "-f", "value", "-c", "address"]).lines().map(str::to_owned).collect();
    macs.sort();
    assert_eq!(macs, ["52:54:00:00:00:01", "52:54:00:00:00:02"]);

    let user_data = service.folder.path().join("user-data");
    std::fs::write(&user_data, "#!/bin/sh\n").expect("written");
    let user_data = user_data.display().to_string();
    let out = service.run(&[
        "node",
        "deploy",
        "m1",
        "--image",
        "http://192.0.2.1/a.raw",
        "--checksum",
        SHA,
        "--image-format",
        "raw",
        "--root-device",
        "serial=S1",
        "--user-data",
        &user_data,
        "--wait",
        "60",
    ]);
    let progress = support::text(&out.stderr);
    assert!(out.status.success(), "{progress}");
    assert!(out.stdout.is_empty(), "progress belongs on standard error");
    assert!(progress.contains("m1: deploying") && progress.contains("m1: active"), "{progress}");
    let info = service.field("m1", "instance_info");
    assert_eq!(info["image_source"], json!("http://192.0.2.1/a.raw"));
    assert_eq!((&info["image_os_hash_algo"], &info["image_disk_format"]), (&json!("sha256"), &json!("raw")));
    assert_eq!(info["root_device"], json!({"serial": "S1"}));
    assert!(info["configdrive"].is_string());

    service.ok(&["node", "power", "off", "m1"]);
    service.ok(&["node", "boot", "device", "set", "m1", "pxe", "--persistent"]);
    assert_eq!(service.json(&["node", "boot", "device", "show", "m1"])["persistent"], json!(true));
    service.ok(&["node", "rebuild", "m1", "--config-drive", "{\"meta_data\": {\"hostname\": \"h\"}}", "--wait"]);
    service.ok(&["node", "undeploy", "m1", "--wait", "60"]);
    assert_eq!(service.field("m1", "provision_state"), json!("available"));

    service.ok(&["node", "retire", "m1", "--reason", "old"]);
    let node = service.json(&["node", "show", "m1"]);
    assert_eq!((&node["provision_state"], &node["retired"], &node["retired_reason"]), (&json!("manageable"), &json!(true), &json!("old")));
    assert_eq!(service.ok(&["node", "list", "--retired", "-f", "value", "-c", "name"]), "m1\n");
    let (_, said) = service.refused(&["node", "provide", "m1"]);
    assert!(said.contains("baremetal node retire m1 --undo"), "{said}");
    service.ok(&["node", "retire", "m1", "--undo"]);
    // Retired while it is used: it is cleaned and goes no further.
    service.ok(&["node", "provide", "m1", "--wait"]);
    service.ok(&["node", "deploy", "m1", "--wait"]);
    service.ok(&["node", "retire", "m1"]);
    service.ok(&["node", "undeploy", "m1", "--wait", "60"]);
    assert_eq!(service.field("m1", "provision_state"), json!("manageable"));
    service.ok(&["node", "retire", "m1", "--undo"]);
    assert_eq!(service.field("m1", "retired"), json!(false));

    assert_eq!(service.ok(&["node", "delete", "m1"]), "Deleted node m1\n");
    assert_eq!(service.json(&["node", "list"]), json!([]));
}

#[test]
fn every_verb_waits_for_the_state_that_it_leads_to() {
    let service = Service::start(&[]);
    service.ok(&["node", "create", "--driver", "fake-hardware", "--name", "m1"]);
    service.ok(&["node", "create", "--driver", "fake-hardware", "--name", "m2"]);
    let state = |expected: &str| {
        for node in ["m1", "m2"] {
            assert_eq!(service.field(node, "provision_state"), json!(expected));
        }
    };
    for (words, expected) in [
        (&["manage"][..], "manageable"),
        (&["inspect"], "manageable"),
        (&["clean", "--clean-steps", "[{\"interface\": \"bios\", \"step\": \"factory_reset\"}]"], "manageable"),
        (&["provide"], "available"),
        (&["deploy"], "active"),
        (&["rescue", "--rescue-password", "x"], "rescue"),
        (&["unrescue"], "active"),
        (&["undeploy"], "available"),
        (&["manage"], "manageable"),
        (&["adopt"], "active"),
    ] {
        let mut line = vec!["node", words[0], "m1", "m2"];
        line.extend(&words[1..]);
        line.extend(["--wait", "60"]);
        if words[0] == "deploy" || words[0] == "adopt" {
            service.ok(&["node", "set", "m1", "m2", "--instance-info", "image_source=http://192.0.2.1/a.raw"]);
        }
        let out = service.run(&line);
        assert!(out.status.success(), "{line:?}: {}", support::text(&out.stderr));
        state(expected);
    }
}

#[test]
fn an_inventory_enrolls_many_and_goes_on_after_a_mistake() {
    let service = Service::start(&[]);
    let file = service.folder.path().join("nodes.yaml");
    let inventory = |last: &str| {
        let mut text = "defaults:\n  driver: fake-hardware\n  properties: {cpus: 2}\nnodes:\n".to_owned();
        for at in 1..=6 {
            text.push_str(&format!("- name: m{at}\n  macs: [\"52:54:00:00:01:0{at}\"]\n  properties:\n    memory_mb: 512\n"));
        }
        text.push_str(last);
        std::fs::write(&file, text).expect("written");
    };
    let path = file.display().to_string();
    inventory("- name: m7\n  driver: ipmi\n  inspect: false\n");
    let out = service.run(&["node", "enroll", "--file", &path, "--format", "json"]);
    assert_eq!(out.status.code(), Some(1));
    let said = support::text(&out.stderr);
    assert!(said.contains("node m7 is in `enroll` instead of `manageable`") && said.contains("ipmi_address"), "{said}");
    let done: serde_json::Value = serde_json::from_slice(&out.stdout).expect("the others are printed");
    assert_eq!(done.as_array().map(Vec::len), Some(6));
    assert_eq!(service.field("m3", "properties")["cpus"], json!(2));

    // The mistake is corrected; only what is left to do is done.
    service.ok(&["node", "delete", "m7"]);
    inventory("- name: m7\n  inspect: false\n  provide: false\n");
    service.ok(&["node", "enroll", "-f", &path]);
    assert_eq!(service.field("m7", "provision_state"), json!("manageable"));
    assert_eq!(service.ok(&["node", "list", "--provision-state", "available", "-f", "value"]).lines().count(), 6);
    assert_eq!(service.ok(&["port", "list", "-f", "value"]).lines().count(), 6);
}

#[test]
fn inventories_in_toml_and_json_are_read_and_mistakes_in_them_named() {
    let service = Service::start(&[]);
    let path = |name: &str, text: &str| {
        let file = service.folder.path().join(name);
        std::fs::write(&file, text).expect("written");
        file.display().to_string()
    };
    let toml = path("a.toml", "[[nodes]]\nname = \"t1\"\ndriver = \"fake-hardware\"\nprovide = false\n");
    let json = path("a.json", r#"{"nodes": [{"name": "j1", "driver": "fake-hardware", "ports": [{"address": "52:54:00:00:02:01"}]}]}"#);
    service.ok(&["node", "enroll", "-f", &toml]);
    service.ok(&["node", "enroll", "-f", &json, "--no-inspect", "--no-provide"]);
    assert_eq!(service.field("t1", "provision_state"), json!("manageable"));
    assert_eq!(service.field("j1", "inspection_finished_at"), json!(null));
    let broken = path("b.yaml", "nodes:\n- name: x\n  driver: y\n    z: 1\n");
    let (_, said) = service.refused(&["node", "enroll", "-f", &broken]);
    assert!(said.contains("b.yaml") && said.contains("line 4"), "{said}");
    let (_, said) = service.refused(&["node", "enroll", "-f", "/nowhere.yaml"]);
    assert!(said.contains("/nowhere.yaml"), "{said}");
}

#[test]
fn refusals_name_the_next_step() {
    let service = Service::start(&["fake.deploy_delay=20"]);
    service.ok(&["node", "enroll", "--driver", "fake-hardware", "--name", "m1", "--no-inspect", "--no-provide"]);
    for (words, expected) in [
        (&["node", "deploy", "m1"][..], "baremetal node provide m1"),
        (&["node", "undeploy", "m1"], "baremetal node provide"),
        (&["node", "show", "m2"], "baremetal node list"),
        (&["node", "create", "--driver", "fake-hardware", "--name", "m1"], "enroll"),
        (&["node", "create", "--driver", "vacuum-tubes"], "baremetal driver list"),
        (&["node", "inventory", "save", "m1"], "baremetal node inspect m1"),
        (&["node", "list", "--os-baremetal-api-version", "1.999"], "1.1 to 1."),
        (&["node", "deploy", "m1", "--image", "a.raw"], "file:///"),
        (&["node", "clean", "m1", "--clean-steps", "{}"], "steps are a list"),
        (&["node", "list", "-c", "nonsense"], "provision_state"),
        (&["node", "list", "--os-auth-type", "password"], "http_basic"),
        (&["node", "retire", "m9"], "baremetal node list"),
        (&["node", "enroll"], "--driver"),
    ] {
        let (code, said) = service.refused(words);
        assert!(said.contains(expected), "{words:?}: {said}");
        assert!(code == 1 || code == 2, "{words:?}: {code}");
        assert!(!said.contains("panicked"), "{said}");
    }
    service.ok(&["node", "maintenance", "set", "m1", "--reason", "fan"]);
    service.ok(&["node", "maintenance", "unset", "m1"]);
    // Deploying takes its time: the wait ends by its own limit, and the node goes on.
    service.ok(&["node", "provide", "m1", "--wait"]);
    let (code, said) = service.refused(&["node", "deploy", "m1", "--wait", "2"]);
    assert_eq!(code, 1);
    assert!(said.contains("still in `deploying`") && said.contains("`active`"), "{said}");
}

#[test]
fn a_wait_outlives_a_daemon_that_is_killed() {
    let mut service = Service::start(&["fake.deploy_delay=4"]);
    service.ok(&["node", "enroll", "--driver", "fake-hardware", "--name", "m1", "--no-inspect"]);
    let mut command = service.command(&["--max-retries", "0", "node", "deploy", "m1", "--wait", "90"]);
    let wait = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().expect("it runs");
    let deploying = || service.field("m1", "provision_state") == json!("deploying");
    bessemer_lab::tool::until("m1 is deploying", std::time::Duration::from_secs(30), deploying).expect("deploying");
    service.kill_and_restart(std::time::Duration::from_secs(3));
    let out = wait.wait_with_output().expect("it ends");
    let said = support::text(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert!(said.contains("no answer from") && said.trim_end().ends_with("m1: active"), "{said}");
}
