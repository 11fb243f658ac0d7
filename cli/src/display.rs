//! Live display of what nodes do: one changing line each on a terminal, a plain line per change elsewhere.
//!
//! Everything goes to standard error, so that results on standard output stay clean.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::record::Record;

/// Bytes are told anew on plain lines after this time.
const EVERY: Duration = Duration::from_secs(10);

const WITHOUT_BAR: &str = "{spinner} {prefix:16} {elapsed:>5} {wide_msg}";
const WITH_BAR: &str = "{spinner} {prefix:16} {elapsed:>5} [{bar:20}] {wide_msg}";

/// Where progress is shown.
#[derive(Debug)]
pub enum Display {
    /// A terminal.
    Terminal(MultiProgress),
    /// A pipe or file.
    Plain,
    /// Nowhere.
    Quiet,
}

impl Display {
    /// Chooses by what standard error is.
    pub fn new(quiet: bool) -> Self {
        if quiet {
            Self::Quiet
        } else if std::io::stderr().is_terminal() {
            Self::Terminal(MultiProgress::new())
        } else {
            Self::Plain
        }
    }

    /// Ends the display for now: what is printed next begins on a line of its own.
    pub fn end(&self) {
        if matches!(self, Self::Terminal(_)) {
            eprintln!();
        }
    }

    /// A line for a node.
    pub fn line(&self, name: &str) -> Line {
        let out = match self {
            Self::Terminal(all) => {
                let bar = all.add(ProgressBar::new_spinner());
                if let Ok(style) = ProgressStyle::with_template(WITHOUT_BAR) {
                    bar.set_style(style);
                }
                bar.set_prefix(name.to_owned());
                bar.enable_steady_tick(Duration::from_millis(120));
                Out::Bar(bar)
            }
            Self::Plain => Out::Plain,
            Self::Quiet => Out::Quiet,
        };
        Line { name: name.to_owned(), out, begin: Instant::now(), told: Mutex::new((String::new(), Instant::now())) }
    }
}

#[derive(Debug)]
enum Out {
    Bar(ProgressBar),
    Plain,
    Quiet,
}

/// The line of one node.
#[derive(Debug)]
pub struct Line {
    name: String,
    out: Out,
    begin: Instant,
    told: Mutex<(String, Instant)>,
}

impl Line {
    /// Says something about it.
    pub fn say(&self, text: &str) {
        self.show(text, "");
    }

    /// Shows where a node is.
    pub fn node(&self, node: &Record) {
        if let Out::Bar(bar) = &self.out {
            let part = part_done(node);
            if let Some(part) = part {
                bar.set_length(1000);
                bar.set_position((part * 1000.0) as u64);
            }
            if let Ok(style) = ProgressStyle::with_template(if part.is_some() { WITH_BAR } else { WITHOUT_BAR }) {
                bar.set_style(style.progress_chars("=> "));
            }
        }
        let (state, bytes) = describe(node);
        self.show(&state, &bytes);
    }

    /// Leaves a last word.
    pub fn finish(&self, text: &str) {
        match &self.out {
            Out::Bar(bar) => bar.finish_with_message(text.to_owned()),
            Out::Plain => self.show(text, ""),
            Out::Quiet => {}
        }
    }

    fn show(&self, text: &str, bytes: &str) {
        match &self.out {
            Out::Bar(bar) => bar.set_message(format!("{text}{bytes}")),
            Out::Plain => {
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                if told.0 != text || (!bytes.is_empty() && told.1.elapsed() >= EVERY) {
                    eprintln!("[{:7.1} s] {}: {text}{bytes}", self.begin.elapsed().as_secs_f64(), self.name);
                    *told = (text.to_owned(), Instant::now());
                }
            }
            Out::Quiet => {}
        }
    }
}

/// The part of the present phase that is done, from 0 to 1, where that is known.
fn part_done(node: &Record) -> Option<f64> {
    let progress = node.get("driver_internal_info")?.get("agent_progress")?;
    let (done, total) = (progress.get("bytes_done")?.as_f64()?, progress.get("bytes_total")?.as_f64()?);
    (total > 0.0).then(|| (done / total).clamp(0.0, 1.0))
}

/// State and step of a node, and the progress within that step.
fn describe(node: &Record) -> (String, String) {
    let mut text = node.text("provision_state").unwrap_or("no state").to_owned();
    for name in ["clean_step", "deploy_step", "service_step"] {
        let part = |part: &str| node.get(name).and_then(|step| step.get(part)).and_then(Value::as_str);
        if let (Some(interface), Some(step)) = (part("interface"), part("step")) {
            text.push_str(&format!(", {} {interface}.{step}", name.replace('_', " ")));
        }
    }
    if node.is("maintenance") {
        text.push_str(", in maintenance");
    }
    let Some(progress) = node.get("driver_internal_info").and_then(|info| info.get("agent_progress")).filter(|p| p.is_object()) else {
        return (text, String::new());
    };
    if let Some(phase) = progress.get("phase").and_then(Value::as_str) {
        text.push_str(&format!(", {phase}"));
    }
    let number = |name: &str| progress.get(name).and_then(Value::as_f64).filter(|number| number.is_finite() && *number >= 0.0);
    let Some(done) = number("bytes_done") else { return (text, String::new()) };
    let mut bytes = format!(" {}", size(done));
    if let Some(total) = number("bytes_total").filter(|total| *total > 0.0) {
        bytes.push_str(&format!(" of {} ({:.0} %)", size(total), (100.0 * done / total).min(100.0)));
    }
    if let Some(rate) = number("rate").filter(|rate| *rate > 0.0) {
        bytes.push_str(&format!(", {}/s", size(rate)));
        if let Some(left) = number("bytes_total").map(|total| (total - done) / rate).filter(|left| (1.0..86_400.0).contains(left)) {
            bytes.push_str(&format!(", {left:.0} s left"));
        }
    }
    (text, bytes)
}

/// Bytes for people: decimal units, as disks are sold in.
pub fn size(bytes: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes;
    let mut unit = units[0];
    for next in &units[1..] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" { format!("{value:.0} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(value: Value) -> Record {
        serde_json::from_value(value).expect("a record")
    }

    #[test]
    fn the_step_and_its_bytes_are_shown() {
        let node = record(json!({
            "provision_state": "deploying", "deploy_step": {"interface": "deploy", "step": "write_image", "args": {}}, "clean_step": {},
            "driver_internal_info": {"agent_progress": {"phase": "write", "bytes_done": 1_500_000, "bytes_total": 3_000_000, "rate": 500_000}}
        }));
        assert_eq!(
            describe(&node),
            ("deploying, deploy step deploy.write_image, write".to_owned(), " 1.5 MB of 3.0 MB (50 %), 500.0 kB/s, 3 s left".to_owned())
        );
    }

    #[test]
    fn strange_progress_is_no_reason_to_fail() {
        for progress in [json!(null), json!([]), json!({"bytes_done": -1}), json!({"bytes_done": "x", "bytes_total": 0})] {
            let node = record(json!({"provision_state": "deploying", "driver_internal_info": {"agent_progress": progress}}));
            assert_eq!(describe(&node), ("deploying".to_owned(), String::new()));
        }
    }
}
