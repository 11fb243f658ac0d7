//! Options of everything that prints: format and columns.

use clap::{Args, ValueEnum};

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum Format {
    /// A table for people
    #[default]
    Table,
    /// JSON
    Json,
    /// Bare values: one line per row, or one per field of a single thing
    Value,
    /// YAML
    Yaml,
    /// Comma separated (lists only)
    Csv,
    /// NAME="value" lines (single things only)
    Shell,
}

/// When CSV values are quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum Quote {
    /// Always
    All,
    /// Where needed
    Minimal,
    /// Never
    None,
    /// Everything but numbers
    #[default]
    Nonnumeric,
}

/// Format and columns.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct Output {
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT", ignore_case = true)]
    pub format: Format,
    #[command(flatten)]
    pub shape: Shape,
}

/// The same without the short `-f`, for commands where that names a file.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputLong {
    /// How the result is printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT", ignore_case = true)]
    pub format: Format,
    #[command(flatten)]
    pub shape: Shape,
}

impl From<OutputLong> for Output {
    fn from(OutputLong { format, shape }: OutputLong) -> Self {
        Self { format, shape }
    }
}

/// Details of the formats.
#[derive(Debug, Clone, Default, Args)]
pub struct Shape {
    /// Print this column only (repeat it for more)
    #[arg(short, long = "column", value_name = "COLUMN")]
    pub columns: Vec<String>,
    /// JSON in one line
    #[arg(long)]
    pub noindent: bool,
    /// Widest table, in characters (0: as wide as it wants)
    #[arg(long, value_name = "WIDTH", default_value_t = 0, env = "CLIFF_MAX_TERM_WIDTH", hide_env = true)]
    pub max_width: u16,
    /// Fit the table to the terminal
    #[arg(long, env = "CLIFF_FIT_WIDTH", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub fit_width: bool,
    /// Print a table also when it has no rows
    #[arg(long)]
    pub print_empty: bool,
    /// When CSV values are quoted
    #[arg(long = "quote", value_enum, default_value_t, value_name = "WHEN")]
    pub quote: Quote,
    /// Put this before each NAME of the shell format
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub prefix: String,
    /// Sort rows by this column (repeat it for more)
    #[arg(long = "sort-column", value_name = "COLUMN")]
    pub sort_columns: Vec<String>,
    /// Sort them upwards (the default)
    #[arg(long, conflicts_with = "sort_descending")]
    pub sort_ascending: bool,
    /// Sort them downwards
    #[arg(long)]
    pub sort_descending: bool,
}
