//! `docs/states.md` shows the state machine that the program runs, and no other.
#![allow(clippy::unwrap_used, reason = "tests")]

use bessemer_model::state::{ProvisionState, StateClass};
use bessemer_model::transition::{TRANSITIONS, diagram_mermaid};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/states.md");
const BEGIN: &str = "<!-- generated from the transition table: BESSEMER_UPDATE_DOCS=1 cargo test -p bessemer-model --test diagram -->\n";

/// Everything below the marker.
fn generated() -> String {
    let mut out =
        format!("```mermaid\n{}```\n\n## States\n\n| State | Kind | Target unless asked otherwise |\n|---|---|---|\n", diagram_mermaid());
    for s in ProvisionState::ALL {
        let kind = match s.class() {
            StateClass::Stable => "rests",
            StateClass::Working => "works",
            StateClass::Waiting => "waits",
            StateClass::Failed => "failed",
            StateClass::Held => "held",
        };
        let target = s.default_target().map_or("-".to_owned(), |t| format!("`{t}`"));
        out.push_str(&format!("| `{s}` | {kind} | {target} |\n"));
    }
    out.push_str("\n## Transitions\n\n| From | Event | To |\n|---|---|---|\n");
    for t in TRANSITIONS {
        out.push_str(&format!("| `{}` | {} | `{}` |\n", t.from, t.on.name(), t.to));
    }
    out
}

#[test]
fn the_documented_state_machine_is_the_one_that_runs() {
    let text = std::fs::read_to_string(FILE).unwrap();
    let (head, tail) = text.split_once(BEGIN).expect("docs/states.md has the marker of its generated part");
    if std::env::var_os("BESSEMER_UPDATE_DOCS").is_some() {
        std::fs::write(FILE, format!("{head}{BEGIN}{}", generated())).unwrap();
        return;
    }
    assert_eq!(tail, generated(), "docs/states.md is out of date: BESSEMER_UPDATE_DOCS=1 cargo test -p bessemer-model --test diagram");
}
