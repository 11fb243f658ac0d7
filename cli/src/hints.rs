//! Next steps by the state of a node.

/// What to do when a node ended in that state and should not have.
pub fn after_failure(node: &str, state: &str) -> String {
    match state {
        "enroll" => format!(
            "Correct driver_info (`baremetal node set {node} --driver-info KEY=VALUE`), then `baremetal node manage {node} --wait`."
        ),
        "inspect failed" => format!("Remove the cause, then `baremetal node inspect {node} --wait`."),
        "clean failed" => {
            format!("Remove the cause, then `baremetal node manage {node} --wait` and `baremetal node provide {node} --wait`.")
        }
        "deploy failed" => {
            format!("Remove the cause, then `baremetal node deploy {node} --wait`, or `baremetal node undeploy {node} --wait`.")
        }
        "adopt failed" => format!("Remove the cause, then `baremetal node adopt {node} --wait`, or `baremetal node manage {node} --wait`."),
        "rescue failed" | "unrescue failed" => format!("Remove the cause, then `baremetal node rescue {node}`, `unrescue`, or `undeploy`."),
        "service failed" => format!("Remove the cause, then `baremetal node service {node}` again, or `baremetal node abort {node}`."),
        "error" => format!("Remove the cause, then `baremetal node undeploy {node} --wait`."),
        _ => format!("`baremetal node history list {node}` tells what happened."),
    }
}

/// What can be done with a node in that state, when what was asked for cannot.
pub fn instead(node: &str, state: &str) -> String {
    let verbs = match state {
        "enroll" => "`baremetal node manage` verifies it",
        "manageable" => "`baremetal node provide` makes it available; inspect, clean and adopt are possible, too",
        "available" => "`baremetal node deploy` puts an image on it, `baremetal node manage` takes it out of use",
        "active" => "`baremetal node undeploy` takes the instance away; rebuild, rescue and service are possible, too",
        "rescue" => "`baremetal node unrescue` boots its own system, `baremetal node undeploy` takes the instance away",
        _ if state.ends_with("hold") => "`baremetal node unhold` lets it go on, `baremetal node abort` stops it",
        _ if state.ends_with("failed") || state == "error" => {
            return format!("Node {node} is in `{state}`. {}", after_failure(node, state));
        }
        _ if state.ends_with("wait") => "it is being worked on; wait, or stop that by `baremetal node abort`",
        _ => "it is being worked on; wait until that is done",
    };
    format!("Node {node} is in `{state}`: {verbs}.")
}

/// Why a node in that state cannot be deployed and what makes it fit; `None` lets the service decide.
pub fn unfit_for_deployment(node: &str, state: &str) -> Option<String> {
    Some(match state {
        "enroll" => format!("`baremetal node manage {node} --wait`, then `baremetal node provide {node} --wait` make it available."),
        "manageable" => format!("`baremetal node provide {node} --wait` makes it available."),
        "active" => {
            format!("`baremetal node rebuild {node}` deploys it anew; `baremetal node undeploy {node} --wait` takes the instance away.")
        }
        "clean failed" => format!("`baremetal node manage {node} --wait`, then `baremetal node provide {node} --wait` clean it again."),
        "inspect failed" => {
            format!("`baremetal node inspect {node} --wait`, then `baremetal node provide {node} --wait` make it available.")
        }
        _ => return None,
    })
}
