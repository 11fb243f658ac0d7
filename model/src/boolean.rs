//! Booleans as people write them.

/// The boolean that a text stands for, as the API and Ironic's options take it; `None` for any other text.
#[must_use]
pub fn from_text(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Some(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::from_text;

    #[test]
    fn only_the_known_words_stand_for_booleans() {
        for (text, expected) in
            [(" True ", Some(true)), ("ON", Some(true)), ("0", Some(false)), ("n", Some(false)), ("", None), ("2", None)]
        {
            assert_eq!(from_text(text), expected, "{text:?}");
        }
    }
}
