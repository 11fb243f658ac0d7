//! The agent's parameters: any text gives settings, and a token never shows in them.
#![no_main]

use libfuzzer_sys::fuzz_target;

use bessemer_agent::params::{Params, Settings};

fuzz_target!(|text: &str| {
    let params = Params::parse(text);
    let settings = Settings::from_params(&params);
    let shown = format!("{settings:?}");
    if let Some(token) = params.get("ipa-agent-token").filter(|token| token.len() >= 24) {
        let elsewhere = text.matches(token).count() > 1;
        assert!(elsewhere || !shown.contains(token), "the token shows");
    }
});
