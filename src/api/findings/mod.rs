//! What is wrong with a manifest: one pure function for `check`, for `run` and for the controller.
//!
//! Three layers, in this order: the schema of the CRD (here unknown fields are errors, which the
//! API server would silently drop), the CEL rules of the CRD, and the rules that neither can
//! express. A message is one sentence that says what to do; it quotes a value only where nobody
//! would put a secret by mistake.

mod across;
mod hours;
mod metadata;
mod rules;
mod schema;

use std::collections::HashSet;
use std::fmt::{self, Write as _};

use serde::Serialize;
use serde_json::Value;

use super::{
    MaxChannel,
    crd::{API_VERSION, KIND},
    path::FieldPath,
};

pub use across::across;
pub use metadata::ACCEPT_BOT;
pub(super) use metadata::secret_problems;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The manifest is not taken; the last good configuration stays in force.
    Error,
    /// The manifest is taken, but something is probably not meant so.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One thing that is wrong, or probably not meant so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// Empty where the manifest as a whole is meant.
    pub field: FieldPath,
    /// One sentence with the remedy, without a full stop.
    pub message: String,
}

impl Finding {
    pub(super) fn error(field: FieldPath, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, field, message: message.into() }
    }

    fn warning(field: FieldPath, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, field, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.field, self.message) }
    }
}

/// Everything that is wrong with one manifest, errors and warnings, in the order of the fields.
/// Never panics, whatever the value is.
pub fn findings(manifest: &Value) -> Vec<Finding> {
    examine(manifest).1
}

/// The channel of a manifest without errors.
///
/// # Errors
/// All findings, of which at least one is an error.
pub fn parse(manifest: &Value) -> Result<MaxChannel, Vec<Finding>> {
    match examine(manifest) {
        (Some(channel), found) if found.iter().all(|finding| finding.severity == Severity::Warning) => Ok(channel),
        (_, found) => Err(found),
    }
}

/// The errors among the findings as one text for a condition or a log line: the first five, and how
/// many more there are.
pub fn summary(findings: &[Finding]) -> String {
    let errors: Vec<String> =
        findings.iter().filter(|finding| finding.severity == Severity::Error).map(ToString::to_string).collect();
    let mut text = errors[..errors.len().min(5)].join("; ");
    if errors.len() > 5 {
        let _ = write!(text, "; and {} more", errors.len() - 5);
    }
    text
}

fn examine(manifest: &Value) -> (Option<MaxChannel>, Vec<Finding>) {
    let text = |member: &str| manifest.get(member).and_then(Value::as_str).unwrap_or_default();
    if (text("apiVersion"), text("kind")) != (API_VERSION, KIND) {
        let message = format!("this is no channel: write apiVersion: {API_VERSION} and kind: {KIND}");
        return (None, vec![Finding::error(FieldPath::default(), message)]);
    }
    // What was observed is not what was written: a manifest taken from a cluster has a status, and
    // nobody can mend it.
    let mut written = manifest.clone();
    if let Some(members) = written.as_object_mut() {
        members.remove("status");
    }
    let mut found = schema::findings(&written);
    // What the schema says of a field is enough: the same mistake would break the rules, too.
    let refused: HashSet<FieldPath> = found.iter().map(|finding| finding.field.clone()).collect();
    let is_new = |finding: &Finding| !refused.contains(&finding.field);
    found.extend(rules::of_texts(&written).into_iter().filter(is_new));
    let (failed, stumbled) = schema::rules(&written);
    // What is told already is not told twice: of the same field, or of a union of which a member is
    // misspelt.
    let told: HashSet<FieldPath> = found.iter().map(|finding| finding.field.clone()).collect();
    let misspelt: HashSet<FieldPath> =
        found.iter().filter(|finding| schema::is_unknown(finding)).filter_map(|one| one.field.parent()).collect();
    // The rules about the name stand at the root, because only that is where rules see it.
    let name = FieldPath::default().key("metadata").key("name");
    let failed = failed.into_iter().filter(|one| {
        let of_name = one.field.is_empty() && told.contains(&name);
        !told.contains(&one.field) && !misspelt.contains(&one.field) && !of_name
    });
    found.extend(failed);
    if found.is_empty() {
        found = stumbled;
    }
    let channel = match serde_json::from_value::<MaxChannel>(written) {
        Ok(channel) => {
            found.extend(rules::of_channel(&channel).into_iter().filter(is_new));
            Some(channel)
        }
        Err(error) => {
            if found.iter().all(|finding| finding.severity == Severity::Warning) {
                // The schema took what the types do not: their own words are better than silence.
                found.push(Finding::error(FieldPath::default(), format!("the manifest cannot be read: {error}")));
            }
            None
        }
    };
    found.sort_by(|a, b| a.field.cmp(&b.field));
    found.dedup();
    (channel, found)
}

#[cfg(test)]
mod tests;
