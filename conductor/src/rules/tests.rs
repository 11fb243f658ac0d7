//! What rules do, told as rules.

use bessemer_model::{Json, clock::Timestamp, ids::PortId, inspection_rule as shape, node::Node, state::ProvisionState};
use serde_json::json;

use super::*;

fn node() -> Node {
    let mut n = crate::testing::node(ProvisionState::Inspecting);
    n.spec.name = Some("n1".into());
    n.spec.properties.insert("cpus".into(), json!(4));
    n.spec.driver_info.insert("ipmi_password".into(), json!("hunter2"));
    n.traits = vec!["CUSTOM_OLD".into()];
    n
}

fn subject() -> Subject {
    let n = node();
    let port = crate::hooks::new_ports(&n, &[("52:54:00:aa:00:01".into(), true)], Timestamp(0)).remove(0);
    Subject {
        node: NodeDoc::of(&n, &n.spec, &n.status.driver_internal_info),
        traits: n.traits.clone(),
        ports: vec![port],
        inventory: json!({"bmc_address": "192.0.2.7", "cpu": {"count": 8, "flags": ["a", "b"]}, "bmc_password": "secret"}),
        plugin_data: json!({"list": [1], "deep": {"auth_token": "t", "only": {"x": 1}}}),
        calls: vec![],
        notes: vec![],
    }
}

fn rule(priority: i64, conditions: Json, actions: Json) -> Rule {
    Rule {
        name: format!("r{priority}"),
        priority,
        sensitive: false,
        conditions: shape::conditions(&conditions).expect("conditions"),
        actions: shape::actions(&actions).expect("actions"),
    }
}

/// Whether a condition holds, seen by whether its rule acts.
fn holds(c: Json) -> Result<bool, RuleFailure> {
    let mut s = subject();
    let mark = json!([{"op": "set-plugin-data", "args": {"path": "mark", "value": true}}]);
    apply(vec![rule(0, json!([c]), mark)], &mut s, MaskSecrets::Always)?;
    Ok(s.plugin_data.get("mark").is_some())
}

fn act(actions: Json) -> Result<Subject, RuleFailure> {
    let mut s = subject();
    apply(vec![rule(0, json!([]), actions)], &mut s, MaskSecrets::Always)?;
    Ok(s)
}

#[test]
fn every_operator_holds_and_fails_as_it_should() {
    let c = |op: &str, args: Json| holds(json!({"op": op, "args": args}));
    for (op, args) in [
        ("eq", json!({"values": ["{inventory[cpu][count]}", "8"]})),
        ("eq", json!({"values": [1, 1.0, true]})),
        ("!eq", json!({"values": ["{inventory[cpu][count]}", 8]})),
        ("eq", json!({"values": [8, "8"], "force_strings": true})),
        ("eq", json!({"values": ["only one"]})),
        ("lt", json!({"values": [1, 2, 3]})),
        ("!lt", json!({"values": [1, 3, 2]})),
        ("gt", json!({"values": ["b", "a"]})),
        ("is-empty", json!({"value": "{inventory[nothing]}"})),
        ("is-empty", json!({"value": []})),
        ("!is-empty", json!({"value": "{inventory[cpu]}"})),
        ("in-net", json!({"address": "{inventory[bmc_address]}", "subnet": "192.0.2.0/24"})),
        ("in-net", json!(["192.0.2.7", "192.0.2.1/255.255.255.0"])),
        ("!in-net", json!({"address": "2001:db8::1", "subnet": "192.0.2.0/24"})),
        ("in-net", json!({"address": "2001:db8::1", "subnet": "2001:db8::/32"})),
        ("matches", json!({"value": "{node.name}", "regex": "n\\d"})),
        ("!matches", json!({"value": "xn1", "regex": "n\\d"})),
        ("!matches", json!({"value": "n12", "regex": "n\\d"})),
        ("contains", json!({"value": "xn12", "regex": "n\\d"})),
        ("one-of", json!({"value": "{node.driver}", "values": ["redfish", "ipmi"]})),
        ("!one-of", json!({"value": "{node.driver}"})),
        ("is-none", json!({"value": null})),
        ("is-true", json!({"value": "YES"})),
        ("!is-true", json!({"value": "{node.maintenance}"})),
        ("is-false", json!({"value": "{node.maintenance}"})),
        ("is-false", json!({"value": null})),
        ("!is-false", json!({"value": "maybe"})),
    ] {
        assert_eq!(c(op, args.clone()), Ok(true), "{op} {args}");
    }
    for (op, args) in [
        ("lt", json!({"values": [1, "2"]})),
        ("eq", json!({"values": "x"})),
        ("in-net", json!({"address": "x", "subnet": "192.0.2.0/24"})),
        ("in-net", json!({"address": "192.0.2.7", "subnet": "192.0.2.0/33"})),
        ("matches", json!({"value": "x", "regex": "("})),
        ("matches", json!({"value": "x", "regex": ""})),
    ] {
        assert!(c(op, args.clone()).is_err(), "{op} {args}");
    }
}

#[test]
fn loops_fill_items_and_take_results_together() {
    let c = |multiple: &str, items: Json| {
        holds(json!({"op": "eq", "args": {"values": ["{item[v]}", "{inventory[cpu][count]}"]}, "loop": items, "multiple": multiple}))
    };
    let mixed = || json!([{"v": 1}, {"v": 8}, {"v": 2}]);
    assert_eq!(c("any", mixed()), Ok(true));
    assert_eq!(c("all", mixed()), Ok(false));
    assert_eq!(c("first", mixed()), Ok(true));
    assert_eq!(c("last", mixed()), Ok(false));
    assert_eq!(c("all", json!({"v": 8})), Ok(true));
    let s = act(json!([{
        "op": "set-attribute", "args": {"path": "{item[path]}", "value": "{item[value]}"},
        "loop": [{"path": "extra/a", "value": "{inventory[bmc_address]}"}, {"path": "extra.b.c", "value": 5}],
    }]))
    .map(|s| s.node.0["extra"].clone());
    assert_eq!(s, Ok(json!({"a": "192.0.2.7", "b": {"c": "5"}})));
}

#[test]
fn secrets_are_hidden_from_rules_unless_the_operator_lets_them_see() {
    let show = |mask, sensitive| {
        let mut s = subject();
        let text = "{inventory[bmc_password]} {plugin_data[deep]} {node.driver_info}";
        let mut r = rule(0, json!([]), json!([{"op": "set-plugin-data", "args": {"path": "seen", "value": text}}]));
        r.sensitive = sensitive;
        apply(vec![r], &mut s, mask).expect("applies");
        s.plugin_data["seen"].as_str().unwrap_or_default().to_owned()
    };
    let hidden = "*** {'auth_token': '***', 'only': {'x': 1}} {'ipmi_password': '***'}";
    let seen = "secret {'auth_token': 't', 'only': {'x': 1}} {'ipmi_password': 'hunter2'}";
    assert_eq!(show(MaskSecrets::Always, true), hidden);
    assert_eq!(show(MaskSecrets::Sensitive, false), hidden);
    assert_eq!(show(MaskSecrets::Sensitive, true), seen);
    assert_eq!(show(MaskSecrets::Never, false), seen);
}

#[test]
fn texts_whose_fields_cannot_be_resolved_stay_as_they_are() {
    for t in ["{inventory[x]}", "{inventory.cpu}", "{node.nothing}", "{foo}", "{}", "{0}", "{", "}", "{node.name!r}", "{node[name]}"] {
        let s = act(json!([{"op": "set-plugin-data", "args": {"path": "t", "value": t}}])).map(|s| s.plugin_data["t"].clone());
        assert_eq!(s, Ok(json!(t)));
    }
    let s = act(json!([{"op": "set-plugin-data", "args": {"path": "t", "value": "{{{inventory[cpu][flags][1]}}} {node.maintenance}"}}]));
    assert_eq!(s.map(|s| s.plugin_data["t"].clone()), Ok(json!("{b} False")));
}

#[test]
fn attributes_of_nodes_are_set_extended_and_removed() {
    let base = node().spec;
    let s = act(json!([
        {"op": "set-attribute", "args": {"path": "/properties/a/b", "value": "{inventory[cpu][count]}"}},
        {"op": "set-attribute", "args": ["resource_class", 5]},
        {"op": "set-attribute", "args": {"path": "maintenance", "value": "yes"}},
        {"op": "set-attribute", "args": {"path": "deploy_interface", "value": "direct"}},
        {"op": "set-attribute", "args": {"path": "no_such_thing", "value": 1}},
        {"op": "extend-attribute", "args": {"path": "extra/l", "value": "x"}},
        {"op": "extend-attribute", "args": {"path": "extra/l", "value": "x", "unique": true}},
        {"op": "extend-attribute", "args": {"path": "extra/l", "value": "x"}},
        {"op": "del-attribute", "args": {"path": "properties.cpus"}},
        {"op": "del-attribute", "args": {"path": "name"}},
        {"op": "set-capability", "args": {"name": "boot_mode", "value": "uefi"}},
        {"op": "set-capability", "args": {"name": "k", "value": "v"}},
        {"op": "unset-capability", "args": {"name": "boot_mode"}},
    ]))
    .expect("applies");
    let (spec, _) = s.node.into_parts(&base).expect("a node");
    assert_eq!(Json::Object(spec.properties), json!({"a": {"b": "8"}, "capabilities": "k:v"}));
    assert_eq!(Json::Object(spec.extra), json!({"l": ["x", "x"]}));
    assert_eq!((spec.resource_class.as_deref(), spec.maintenance, spec.name), (Some("5"), true, None));
    assert_eq!(spec.interfaces.get(bessemer_model::interface::InterfaceKind::Deploy), "direct");
    // Secrets that rules cannot see are still there.
    assert_eq!(spec.driver_info["ipmi_password"], json!("hunter2"));
}

#[test]
fn what_is_not_a_rules_to_change_fails_it() {
    for a in [
        json!({"op": "set-attribute", "args": {"path": "provision_state", "value": "active"}}),
        json!({"op": "set-attribute", "args": {"path": "uuid", "value": "x"}}),
        json!({"op": "set-attribute", "args": {"path": "extra", "value": [1]}}),
        json!({"op": "set-attribute", "args": {"path": "name/x", "value": 1}}),
        json!({"op": "extend-attribute", "args": {"path": "properties/cpus", "value": 1}}),
        json!({"op": "del-attribute", "args": {"path": "properties/nothing"}}),
        json!({"op": "del-attribute", "args": {"path": "maintenance_reasons"}, "loop": [1]}),
        json!({"op": "set-port-attribute", "args": {"port_id": PortId::random().to_string(), "path": "extra/x", "value": 1}}),
        json!({"op": "set-capability", "args": {"name": "a", "value": 5}}),
        json!({"op": "extend-plugin-data", "args": {"path": "deep", "value": 1}}),
        json!({"op": "api-call", "args": {"url": "file:///etc/passwd"}}),
        json!({"op": "api-call", "args": {"url": "http://192.0.2.1/", "timeout": 0}}),
        json!({"op": "log", "args": {"msg": "x", "level": "loud"}}),
        json!({"op": "add-trait", "args": {"name": ""}}),
    ] {
        let tolerated = a["args"]["path"] == "maintenance_reasons";
        assert_eq!(act(json!([a])).is_err(), !tolerated, "{a}");
    }
    let failed = act(json!([{"op": "fail", "args": {"msg": "too small: {node.name}"}}])).map(drop);
    assert_eq!(failed.map_err(|f| f.text), Err("too small: {node.name}".into()));
}

#[test]
fn plugin_data_traits_and_ports_change() {
    let mut s = subject();
    let port = s.ports[0].id.to_string();
    let actions = json!([
        {"op": "set-plugin-data", "args": {"path": "new.key", "value": "{node.name}"}},
        {"op": "extend-plugin-data", "args": {"path": "list", "value": 1, "unique": true}},
        {"op": "extend-plugin-data", "args": {"path": "fresh", "value": 2}},
        {"op": "unset-plugin-data", "args": {"path": "deep.only.x"}},
        {"op": "unset-plugin-data", "args": {"path": "not.there"}},
        {"op": "add-trait", "args": {"name": "CUSTOM_NEW"}},
        {"op": "remove-trait", "args": {"name": "CUSTOM_OLD"}},
        {"op": "remove-trait", "args": {"name": "CUSTOM_NOT_THERE"}},
        {"op": "set-port-attribute", "args": {"port_id": port, "path": "pxe_enabled", "value": false}},
        {"op": "extend-port-attribute", "args": {"port_id": port, "path": "extra/l", "value": 1}},
        {"op": "set-port-attribute", "args": {"port_id": port, "path": "/extra/k", "value": "v"}},
        {"op": "del-port-attribute", "args": {"port_id": port, "path": "/extra/k"}},
        {"op": "api-call", "args": {"url": "http://192.0.2.1/{node.name}", "headers": {"X": 1}}},
    ]);
    apply(vec![rule(0, json!([]), actions)], &mut s, MaskSecrets::Always).expect("applies");
    assert_eq!(s.plugin_data, json!({"list": [1], "fresh": [2], "deep": {"auth_token": "t"}, "new": {"key": "n1"}}));
    assert_eq!(s.traits, ["CUSTOM_NEW"]);
    assert!(!s.ports[0].pxe_enabled);
    assert_eq!(Json::Object(s.ports[0].extra.clone()), json!({"l": [1]}));
    assert_eq!((s.calls[0].url.as_str(), s.calls[0].timeout, s.calls[0].retries), ("http://192.0.2.1/n1", 5.0, 3));
}

#[test]
fn rules_run_from_high_to_low_priority_and_see_what_others_did() {
    let mut s = subject();
    let set = |v: &str| json!([{"op": "set-attribute", "args": {"path": "extra/x", "value": v}}]);
    let when_first = json!([{"op": "eq", "args": {"values": ["{node.extra[x]}", "first"]}}]);
    let rules = vec![rule(1, when_first, set("second")), rule(5, json!([]), set("first"))];
    apply(rules, &mut s, MaskSecrets::Always).expect("applies");
    assert_eq!(s.node.0["extra"]["x"], json!("second"));
}

#[test]
fn the_operators_file_names_its_rules_and_is_refused_as_a_whole_when_one_is_wrong() {
    let text = "- description: a\n  priority: -5\n  actions:\n    - op: fail\n      args: {msg: no}\n- uuid: mine\n  actions: [{op: log, args: {msg: x}}]\n";
    let rules = super::builtin::parse(text).expect("parses");
    assert_eq!(
        rules.iter().map(|r| (r.name.as_str(), r.priority)).collect::<Vec<_>>(),
        [("00000000-0000-0000-0000-000000000000", -5), ("mine", 0)]
    );
    for bad in ["a: 1", "- actions: []", "- actions: [{op: nope, args: {}}]", "- phase: x\n  actions: [{op: fail, args: {msg: x}}]"] {
        assert!(super::builtin::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_port_that_was_patched_meanwhile_keeps_both_changes() {
    let base = subject().ports.remove(0);
    let (mut ours, mut theirs) = (base.clone(), base.clone());
    ours.extra.insert("rule".into(), json!(1));
    theirs.description = Some("patched".into());
    theirs.revision = 9;
    let merged = merge_port(&base, &ours, &theirs);
    assert_eq!((merged.description.as_deref(), merged.extra.get("rule"), merged.revision), (Some("patched"), Some(&json!(1)), 9));
}
