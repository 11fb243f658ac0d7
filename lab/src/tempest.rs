//! The acceptance suite of Ironic's API (tempest with ironic-tempest-plugin), with a real Keystone and our daemon on fake hardware.
//!
//! What may fail is named in `tests/tempest/permitted.txt`; everything else must pass, and what is named there must not.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    dev::DevServer,
    keystone::{self, Keystone},
    peers,
    tool::{self, command},
};

/// The suite's tests of the API; its others need machines.
pub const API_TESTS: &str = "ironic_tempest_plugin.tests.api";
/// For the whole suite on a busy machine.
const LIMIT: Duration = Duration::from_secs(60 * 60);
const PERMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tempest/permitted.txt");

/// Options of the daemon that the suite assumes, beside `--dev` and those of Keystone.
pub const OPTIONS: &[&str] = &[
    "DEFAULT.enabled_network_interfaces=noop,flat,neutron",
    "DEFAULT.default_network_interface=noop",
    "DEFAULT.enabled_console_interfaces=fake,fake-graphical,no-console",
];

/// What came out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed or were skipped, as they may.
    pub permitted: usize,
    /// What should not be: a line each.
    pub wrong: Vec<String>,
}

/// Runs those tests of the suite that match `filter` (a regular expression) with `program`, our daemon. What the suite said, configuration
/// and logs are left in `folder`, which is emptied before.
///
/// # Errors
/// Keystone, the daemon or the suite cannot be run.
pub fn run(program: &Path, folder: &Path, filter: &str) -> Result<Verdict> {
    peers::TEMPEST.ensure()?;
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder.join("lock"))?;
    let keystone = Keystone::start(&folder.join("keystone"))?;
    let options = keystone.options();
    let options: Vec<&str> = options.iter().map(String::as_str).chain(OPTIONS.iter().copied()).collect();
    let daemon = DevServer::start(program, &options)?;
    keystone.offer("baremetal", &daemon.url())?;
    keystone.offer("network", &keystone.network())?;
    let suite = Suite::new(folder, &keystone)?;
    let all = suite.list(filter)?;
    let said = suite.run(filter);
    let _ = std::fs::copy(daemon.log(), folder.join("daemon.log"));
    Ok(judge(&all, &outcomes(&said?), &permitted(&std::fs::read_to_string(PERMITTED)?)))
}

struct Suite<'a> {
    folder: &'a Path,
}

impl<'a> Suite<'a> {
    fn new(folder: &'a Path, keystone: &Keystone) -> Result<Self> {
        std::fs::write(folder.join("tempest.conf"), configuration(folder, keystone))?;
        let where_is = "import os, tempest; print(os.path.dirname(tempest.__file__))";
        let python = peers::TEMPEST.program("python").display().to_string();
        let tempest = PathBuf::from(tool::run(command(&python).args(["-c", where_is]), Duration::from_secs(60))?.trim());
        let top = tempest.parent().context("tempest's folder")?;
        // The tests of one class share what they make.
        let runner = format!(
            "[DEFAULT]\ntest_path={}\ntop_dir={}\ngroup_regex=([^\\.]*\\.)*\n",
            tempest.join("test_discover").display(),
            top.display()
        );
        std::fs::write(folder.join(".stestr.conf"), runner)?;
        let suite = Self { folder };
        tool::run(suite.stestr().arg("init"), Duration::from_secs(60))?;
        Ok(suite)
    }

    fn stestr(&self) -> std::process::Command {
        let mut c = command(&peers::TEMPEST.program("stestr").display().to_string());
        let path = std::env::join_paths(
            std::iter::once(peers::TEMPEST.folder().join("bin"))
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
        );
        c.current_dir(self.folder).env("PATH", path.unwrap_or_default()).env("PYTHONWARNINGS", "ignore").env("PYTHONPATH", "");
        c.env("TEMPEST_CONFIG_DIR", self.folder).env("TEMPEST_CONFIG", "tempest.conf").env("OS_TEST_TIMEOUT", "600");
        c
    }

    fn list(&self, filter: &str) -> Result<BTreeSet<String>> {
        let said = tool::run(self.stestr().args(["list", filter]), Duration::from_secs(600))?;
        let all: BTreeSet<String> = said.lines().filter(|l| l.contains(".test_")).map(|l| plain(l).to_owned()).collect();
        ensure!(!all.is_empty(), "the suite has no test that matches {filter}");
        Ok(all)
    }

    fn run(&self, filter: &str) -> Result<String> {
        let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let out = tool::output(self.stestr().args(["run", "--concurrency", &workers.to_string(), filter]), LIMIT)?;
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        std::fs::write(self.folder.join("run.log"), &said)?;
        if !said.contains("\nTotals\n") {
            bail!("the suite did not come to its end: {}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(said)
    }
}

/// The suite's configuration: credentials made as they are needed, every interface that the daemon has.
fn configuration(folder: &Path, keystone: &Keystone) -> String {
    let (folder, base, password, region) = (folder.display(), keystone.base(), keystone::PASSWORD, keystone::REGION);
    format!(
        "[DEFAULT]\nlog_dir = {folder}\nlog_file = tempest.log\n[oslo_concurrency]\nlock_path = {folder}/lock\n\
         [auth]\nuse_dynamic_credentials = true\ncreate_isolated_networks = false\nadmin_username = admin\nadmin_password = {password}\n\
         admin_project_name = admin\nadmin_domain_name = Default\n\
         [identity]\nauth_version = v3\nuri_v3 = {base}\nregion = {region}\nv3_endpoint_type = public\n\
         [enforce_scope]\nkeystone = true\nironic = true\n\
         [service_available]\nironic = true\nneutron = true\nnova = false\nglance = false\ncinder = false\nswift = false\n\
         horizon = false\n\
         [network]\nshared_physical_network = true\n[network-feature-enabled]\napi_extensions =\n\
         [compute]\nfixed_network_name = private\nbuild_timeout = 60\nbuild_interval = 1\n[validation]\nrun_validation = false\n\
         [baremetal]\ndriver = fake-hardware\ncatalog_type = baremetal\nendpoint_type = public\nmax_microversion = latest\n\
         enabled_drivers =\nenabled_hardware_types = fake-hardware,ipmi,redfish,manual-management\n\
         enabled_bios_interfaces = fake,no-bios,redfish\nenabled_boot_interfaces = fake,ipxe,pxe,redfish-virtual-media\n\
         enabled_console_interfaces = fake,fake-graphical,no-console\nenabled_deploy_interfaces = fake,direct,ramdisk\n\
         enabled_inspect_interfaces = fake,no-inspect,agent,redfish\nenabled_management_interfaces = fake,ipmitool,noop,redfish\n\
         enabled_power_interfaces = fake,agent,ipmitool,redfish\nenabled_raid_interfaces = fake,agent,no-raid,redfish\n\
         enabled_rescue_interfaces = fake,agent,no-rescue\ndefault_rescue_interface = no-rescue\ndefault_boot_option = local\n\
         power_timeout = 60\nactive_timeout = 60\nunprovision_timeout = 60\ndeploywait_timeout = 60\ninspect_timeout = 60\n\
         rescue_timeout = 60\nunrescue_timeout = 60\n"
    )
}

/// Without what the suite adds in brackets.
fn plain(id: &str) -> &str {
    id.split('[').next().unwrap_or(id).trim()
}

/// What the runner printed of each test: `{0} a.b.C.test_d [0.2s] ... ok`. A class that could not be set up stands there as
/// `setUpClass (a.b.C)`, and its tests do not.
fn outcomes(said: &str) -> BTreeMap<String, String> {
    let line = |l: &str| {
        let rest = l.strip_prefix('{')?.split_once("} ")?.1;
        let (test, outcome) = rest.rsplit_once(" ... ")?;
        Some((plain(test).to_owned(), outcome.trim().to_owned()))
    };
    said.lines().filter_map(line).collect()
}

/// Names, one per line; the rest of a line after `#` tells why.
fn permitted(text: &str) -> BTreeSet<String> {
    text.lines().map(|l| l.split('#').next().unwrap_or(l).trim()).filter(|l| !l.is_empty()).map(str::to_owned).collect()
}

fn judge(all: &BTreeSet<String>, outcomes: &BTreeMap<String, String>, permitted: &BTreeSet<String>) -> Verdict {
    let mut verdict = Verdict::default();
    for test in all {
        let outcome = outcomes.get(test).map_or("did not run", String::as_str);
        match (outcome == "ok", permitted.contains(test)) {
            (true, false) => verdict.passed += 1,
            (false, true) => verdict.permitted += 1,
            (true, true) => verdict.wrong.push(format!("{test}: passes now; take it from the list of what may fail")),
            (false, false) => verdict.wrong.push(format!("{test}: {outcome}")),
        }
    }
    for (what, outcome) in outcomes.iter().filter(|(name, outcome)| *outcome != "ok" && !all.contains(*name)) {
        verdict.wrong.push(format!("{what}: {outcome}"));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
{0} a.T.test_one [0.059s] ... ok
{1} a.T.test_two [0.022s] ... FAILED
Captured traceback:
{1} a.T.test_three [0.0s] ... SKIPPED: there is no network
{0} setUpClass (a.U) [0.0s] ... FAILED
";

    fn names(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn only_what_the_list_names_may_fail_and_it_must() {
        let all = names(&["a.T.test_one", "a.T.test_two", "a.T.test_three", "a.U.test_four"]);
        let got = judge(&all, &outcomes(SAID), &permitted("# why\na.T.test_three # no network\n\n"));
        assert_eq!((got.passed, got.permitted), (1, 1));
        assert_eq!(got.wrong, ["a.T.test_two: FAILED", "a.U.test_four: did not run", "setUpClass (a.U): FAILED"]);
        let got = judge(&names(&["a.T.test_one"]), &outcomes("{0} a.T.test_one [1s] ... ok\n"), &names(&["a.T.test_one"]));
        assert_eq!((got.passed, got.wrong.len()), (0, 1));
    }

    #[test]
    fn tags_are_no_part_of_a_name() {
        assert_eq!(plain("a.T.test_one[id-5f,negative]"), "a.T.test_one");
    }

    #[test]
    fn the_list_of_what_may_fail_names_tests_of_the_api() {
        let list = permitted(&std::fs::read_to_string(PERMITTED).expect("the list"));
        assert!(list.iter().all(|t| t.starts_with(API_TESTS)), "{list:?}");
    }
}
