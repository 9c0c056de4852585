//! What the operator is told.

use super::path::Path;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The request failed.
    Error,
    /// The request went on.
    Warning,
}

/// The longest detail, in bytes: a text of a server in it may be anything.
const DETAIL_BYTES: usize = 32 << 10;

/// One message to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Short and fixed: the core merges warnings with equal summaries.
    pub summary: String,
    /// Sentences: what, why, what to write instead.
    pub detail: String,
    /// The attribute meant; the root when there is none.
    pub path: Path,
}

impl Diagnostic {
    /// An error at `path`; what is beyond 32 KiB of `detail` is left out.
    pub fn error(path: impl Into<Path>, summary: impl Into<String>, detail: impl Into<String>) -> Diagnostic {
        let mut detail = detail.into();
        if detail.len() > DETAIL_BYTES {
            let end = (0..=DETAIL_BYTES).rev().find(|end| detail.is_char_boundary(*end)).unwrap_or(0);
            detail.truncate(end);
            detail.push_str(" [...]");
        }
        Diagnostic { severity: Severity::Error, summary: summary.into(), detail, path: path.into() }
    }

    /// A warning at `path`.
    pub fn warning(path: impl Into<Path>, summary: impl Into<String>, detail: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(path, summary, detail) }
    }
}

/// Messages in the order they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Adds an error.
    pub fn error(&mut self, path: impl Into<Path>, summary: impl Into<String>, detail: impl Into<String>) {
        self.0.push(Diagnostic::error(path, summary, detail));
    }

    /// Adds a warning.
    pub fn warning(&mut self, path: impl Into<Path>, summary: impl Into<String>, detail: impl Into<String>) {
        self.0.push(Diagnostic::warning(path, summary, detail));
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: impl Into<Diagnostics>) {
        self.0.extend(other.into().0);
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each in turn.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Diagnostics(vec![diagnostic])
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_without_end_is_cut() {
        let told = Diagnostic::error(Path::root(), "x", format!("a{}", "\u{20ac}".repeat(1 << 20)));
        assert!(told.detail.len() < DETAIL_BYTES + 10 && told.detail.ends_with("\u{20ac} [...]"));
    }
}
