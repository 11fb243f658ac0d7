//! The agent token: it compares in constant time and never prints.

use bessemer_model::secret::Secret;
use subtle::ConstantTimeEq;

/// The secret that the conductor and this agent share.
#[derive(Clone, Debug)]
pub struct Token(Secret<String>);

impl Token {
    /// Wraps a token.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Secret::new(text.into()))
    }

    /// Whether `offered` is this token. Takes the same time wherever the first difference is.
    pub fn matches(&self, offered: &str) -> bool {
        self.0.reveal().as_bytes().ct_eq(offered.as_bytes()).into()
    }

    /// The token itself, for the wire and for the state file only.
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_matches_only_itself_and_never_prints() {
        let token = Token::new("abcdef");
        assert!(token.matches("abcdef"));
        assert!(!token.matches("abcdeg"));
        assert!(!token.matches("abcde"));
        assert!(!token.matches(""));
        assert!(!format!("{token:?}").contains("abc"));
    }
}
