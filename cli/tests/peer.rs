//! The same questions to the Python client and to our program: the same answers.

mod support;

use std::process::Output;

use bessemer_lab::cli::Baremetal;
use bessemer_lab::peers;
use serde_json::Value;
use support::{LIMIT, Service, text};

/// The Python client, or `None` with a word when it cannot be had here.
fn python(url: &str) -> Option<Baremetal> {
    match peers::IRONIC_CLIENT.ensure() {
        Ok(()) => Some(Baremetal::ironic_client(url)),
        Err(error) => {
            eprintln!("not compared: no Python client here: {error:#}");
            None
        }
    }
}

#[test]
fn answers_are_those_of_the_python_client() {
    let service = Service::start(&[]);
    let Some(python) = python(&service.url) else { return };
    service.ok(&[
        "node",
        "enroll",
        "--driver",
        "fake-hardware",
        "--name",
        "m1",
        "--property",
        "cpus=4",
        "--property",
        "capabilities=boot_mode:uefi",
        "--extra",
        "note=it's \"so\"",
        "--resource-class",
        "big",
    ]);
    let uuid = service.json(&["node", "show", "m1"])["uuid"].as_str().expect("a UUID").to_owned();
    service.ok(&["port", "create", "52:54:00:00:00:01", "--node", &uuid, "--extra", "a=1", "--extra", "b={\"c\": null}"]);
    service.ok(&["node", "deploy", "m1", "--image", "http://192.0.2.1/a.raw", "--wait", "60"]);
    service.ok(&["node", "create", "--driver", "ipmi", "--name", "m2", "--description", "a, \"b\""]);
    service.ok(&["node", "trait", "add", "m1", "CUSTOM_A", "CUSTOM_B"]);

    let lines = [
        "node list",
        "node list -f json",
        "node list -f csv",
        "node list -f value -c name -c maintenance",
        "node list --long -f json",
        "node list --fields uuid name properties extra -f value",
        "node list --sort name:desc -f value",
        "node list --limit 1 -f json --noindent",
        "node show m1",
        "node show m1 -f json",
        "node show m1 -f value",
        "node show m2 -f shell",
        "node show m1 --fields name properties instance_info -f json",
        "node validate m1 -f json",
        "node validate m2",
        "node trait list m1 -f json",
        "node boot device show m1 -f json",
        "node history list m1 --long -f json",
        "port list -f json",
        "port list --long",
        "port show --address 52:54:00:00:00:01 -f json",
        "driver list",
        "driver show ipmi -f json",
        "driver property list ipmi",
        "conductor list --long -f json",
    ];
    let mut wrong = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let ask = || (python.attempt(&words, LIMIT).expect("it runs"), service.run(&words));
        let same = |theirs: &Output, ours: &Output| ours.stdout == theirs.stdout && ours.status.success() == theirs.status.success();
        let (mut theirs, mut ours) = ask();
        // A conductor renews its row every three seconds: both are asked again where that came between them.
        for _ in 0..4 {
            if same(&theirs, &ours) {
                break;
            }
            (theirs, ours) = ask();
        }
        if !same(&theirs, &ours) {
            let (theirs, ours) = (text(&theirs.stdout) + &text(&theirs.stderr), text(&ours.stdout) + &text(&ours.stderr));
            wrong.push(format!("--- {line}\npython:\n{theirs}\nours:\n{ours}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_same_words_make_the_same_nodes_and_ports() {
    let service = Service::start(&[]);
    let Some(python) = python(&service.url) else { return };
    let both = |line: &[&str]| -> (Value, Value) {
        let theirs: Vec<String> = line.iter().map(|word| word.replace("WHO", "1")).collect();
        let ours: Vec<String> = line.iter().map(|word| word.replace("WHO", "2")).collect();
        let words = |line: &[String]| line.iter().map(String::as_str).collect::<Vec<_>>().join("\u{1f}");
        let (theirs, ours) = (words(&theirs), words(&ours));
        (
            python.json(&theirs.split('\u{1f}').collect::<Vec<_>>(), LIMIT).expect("python's"),
            service.json(&ours.split('\u{1f}').collect::<Vec<_>>()),
        )
    };
    let same = |(mut theirs, mut ours): (Value, Value)| {
        for node in [&mut theirs, &mut ours] {
            for own in ["uuid", "name", "created_at", "updated_at", "address", "node_uuid", "conductor"] {
                node[own] = Value::Null;
            }
        }
        assert_eq!(ours, theirs);
    };
    let line = [
        "node",
        "create",
        "--driver",
        "fake-hardware",
        "--name",
        "mWHO",
        "--driver-info",
        "a=1",
        "--driver-info",
        "b=text",
        "--property",
        "cpus=4",
        "--property",
        "root_device={\"serial\": \"S\"}",
        "--extra",
        "on=true",
        "--resource-class",
        "big",
        "--automated-clean",
        "--description",
        "d",
        "--power-interface",
        "fake",
        "--network-interface",
        "noop",
        "--disable-power-off",
        "--network-data",
        "{\"links\": [], \"networks\": [], \"services\": []}",
    ];
    same(both(&line));
    let line = ["port", "create", "52:54:00:00:00:0WHO", "--pxe-enabled", "false", "--extra", "a=1", "--node"];
    let uuid = |name: &str| service.json(&["node", "show", name, "--fields", "uuid"])["uuid"].as_str().expect("a UUID").to_owned();
    let node = [uuid("m1"), uuid("m2")];
    let theirs: Vec<&str> =
        line.iter().copied().map(|w| if w.starts_with("52") { "52:54:00:00:00:01" } else { w }).chain([node[0].as_str()]).collect();
    let ours: Vec<&str> =
        line.iter().copied().map(|w| if w.starts_with("52") { "52:54:00:00:00:02" } else { w }).chain([node[1].as_str()]).collect();
    same((python.json(&theirs, LIMIT).expect("python's"), service.json(&ours)));

    let change = |node: &str| -> Vec<Vec<String>> {
        [
            format!("node set {node} --property ab=c --extra x=1 --resource-class small --no-automated-clean --driver-info a=2"),
            format!(
                "node set {node} --instance-info image_source=http://x --description new --owner me --enable-power-off --retired --retired-reason r"
            ),
            format!("node unset {node} --property cpus --extra on --owner --network-data"),
        ]
        .iter()
        .map(|line| line.split(' ').map(str::to_owned).collect())
        .collect()
    };
    for (theirs, ours) in change("m1").iter().zip(change("m2")) {
        let words: Vec<&str> = theirs.iter().map(String::as_str).collect();
        python.run(&words, LIMIT).expect("python's");
        let words: Vec<&str> = ours.iter().map(String::as_str).collect();
        service.ok(&words);
    }
    same((service.json(&["node", "show", "m1"]), service.json(&["node", "show", "m2"])));
}
