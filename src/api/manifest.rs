//! Manifests as texts: several YAML documents become channels and Secrets, and what cannot be read becomes sentences with file and line.
//!
//! No I/O. A broken document never hides the others. The values of Secrets are in [`SecretString`] from here on, and no error, note or
//! `Debug` shows them.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::SecretString;
use serde_json::Value;

use super::{
    crd::{API_VERSION, GROUP, KIND},
    path::FieldPath,
    yaml,
};

/// The namespace of a manifest that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Where a manifest or a problem stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// As it was given by the caller.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One sentence about a place in a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct Note {
    pub place: Source,
    pub message: String,
}

/// A `MaxChannel` as it was written; whether it is right is told by [`super::findings`].
#[derive(Clone, Debug)]
pub struct ChannelManifest {
    pub namespace: String,
    pub name: String,
    pub value: Value,
    pub source: Source,
    /// The text of the document, to find lines in; empty where only the beginning is known.
    document: String,
    lines_before: usize,
}

impl ChannelManifest {
    /// The place of a field or, where it is missing, of the nearest thing around it.
    pub fn place(&self, field: &FieldPath) -> Source {
        let line = if field.is_empty() { None } else { yaml::line_of(&self.document, field) };
        Source { file: self.source.file.clone(), line: line.map_or(self.source.line, |line| line + self.lines_before) }
    }
}

/// A Secret; both `data` and `stringData` are read, and the latter wins, as in Kubernetes. Values that are not texts are left out.
#[derive(Clone, Debug)]
pub struct SecretManifest {
    pub namespace: String,
    pub name: String,
    pub data: BTreeMap<String, SecretString>,
    pub source: Source,
}

/// What a set of files holds.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    pub channels: Vec<ChannelManifest>,
    pub secrets: Vec<SecretManifest>,
    /// What could not be read.
    pub errors: Vec<Note>,
    /// What was left aside on purpose.
    pub notes: Vec<Note>,
}

impl Manifests {
    /// Reads the documents of one file. A second manifest of the same kind, namespace and name is an error, and the first stays.
    pub fn add(&mut self, file: &str, text: &str) {
        for (lines_before, document) in yaml::documents(text) {
            let source = |line: usize| Source { file: file.to_owned(), line };
            let value = match yaml::read(document) {
                Ok(Value::Null) => continue,
                Ok(value) => value,
                Err(error) => {
                    self.errors.push(Note { place: source(lines_before + error.line), message: error.message });
                    continue;
                }
            };
            let begin = lines_before + 1 + first_content(document);
            if value["kind"] == "List" && value["apiVersion"] == "v1" {
                let items = value["items"].as_array().cloned().unwrap_or_default();
                for (index, item) in items.into_iter().enumerate() {
                    let line = yaml::line_of(document, &FieldPath::default().key("items").index(index));
                    // A list may hold Secrets, so its text is not kept.
                    self.take(item, source(line.map_or(begin, |line| lines_before + line)), "", 0);
                }
            } else {
                self.take(value, source(begin), document, lines_before);
            }
        }
    }

    /// The Secret of that namespace and name.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<&SecretManifest> {
        self.secrets.iter().find(|secret| secret.namespace == namespace && secret.name == name)
    }

    fn take(&mut self, value: Value, source: Source, document: &str, lines_before: usize) {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        let (kind, api_version) = (text("/kind").unwrap_or_default(), text("/apiVersion").unwrap_or_default());
        let ours = kind == KIND || api_version.split('/').next() == Some(GROUP);
        let message = if kind.is_empty() && !ours {
            self.notes
                .push(Note { place: source, message: "skipped: it has no kind, so it is no manifest".to_owned() });
            return;
        } else if ours && (kind, api_version) != (KIND, API_VERSION) {
            Some(format!(
                "{} {} is not known here: write apiVersion: {API_VERSION} and kind: {KIND}",
                shown(api_version),
                shown(kind)
            ))
        } else if !ours && (kind, api_version) != ("Secret", "v1") {
            self.notes.push(Note { message: format!("skipped: {} is not read here", shown(kind)), place: source });
            return;
        } else if value.pointer("/metadata/name").and_then(Value::as_str).is_none_or(str::is_empty) {
            Some(format!("the {kind} has no name: give metadata.name, a text"))
        } else if value.pointer("/metadata/namespace").is_some_and(|namespace| !namespace.is_string()) {
            Some(format!("the namespace of the {kind} is not a text: put it in quotes or remove it"))
        } else {
            None
        };
        if let Some(message) = message {
            self.errors.push(Note { place: source, message });
            return;
        }
        let name = text("/metadata/name").unwrap_or_default().to_owned();
        let namespace =
            text("/metadata/namespace").filter(|text| !text.is_empty()).unwrap_or(DEFAULT_NAMESPACE).to_owned();
        let taken = match kind {
            KIND => self.channels.iter().find(|c| (&c.namespace, &c.name) == (&namespace, &name)).map(|c| &c.source),
            _ => self.secrets.iter().find(|s| (&s.namespace, &s.name) == (&namespace, &name)).map(|s| &s.source),
        };
        if let Some(first) = taken {
            let message =
                format!("{kind} {namespace}/{name} stands at {first} already: remove one, or give it another name");
            self.errors.push(Note { place: source, message });
        } else if kind == KIND {
            let document = document.to_owned();
            self.channels.push(ChannelManifest { namespace, name, value, source, document, lines_before });
        } else {
            match secret_data(&value) {
                Ok(data) => self.secrets.push(SecretManifest { namespace, name, data, source }),
                Err(message) => {
                    self.errors.push(Note { place: source, message: format!("Secret {namespace}/{name}: {message}") });
                }
            }
        }
    }
}

fn shown(text: &str) -> &str {
    if text.is_empty() { "(none)" } else { text }
}

/// The number of lines before the first one that says something.
fn first_content(document: &str) -> usize {
    let says_nothing = |line: &str| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---" || line == "..." || line.starts_with("--- #")
    };
    document.lines().take_while(|line| says_nothing(line)).count()
}

fn secret_data(value: &Value) -> Result<BTreeMap<String, SecretString>, String> {
    let mut data = BTreeMap::new();
    for member in ["data", "stringData"] {
        let entries = match &value[member] {
            Value::Null => continue,
            Value::Object(entries) => entries,
            _ => return Err(format!("{member} is not a mapping of keys to texts")),
        };
        for (key, value) in entries {
            let Some(text) = value.as_str() else {
                return Err(format!("{member}.{key} is not a text: put the value in quotes"));
            };
            if member == "stringData" {
                data.insert(key.clone(), SecretString::from(text));
                continue;
            }
            let packed: String = text.split_ascii_whitespace().collect();
            let bytes = STANDARD.decode(packed).map_err(|_| {
                format!("data.{key} is not base64: encode the value, or put it under stringData as it is")
            })?;
            if let Ok(text) = String::from_utf8(bytes) {
                data.insert(key.clone(), SecretString::from(text));
            }
        }
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn read(text: &str) -> Manifests {
        let mut manifests = Manifests::default();
        manifests.add("a.yaml", text);
        manifests
    }

    const CHANNEL: &str = "apiVersion: maxchannel.dev/v1alpha1\nkind: MaxChannel\nmetadata: {name: support, namespace: crm}\nspec:\n  \
                           suspend: 1\n";

    #[test]
    fn channels_and_secrets_of_several_documents_are_found_with_their_lines_and_the_rest_is_noted() {
        let text = format!(
            "# a comment\n---\n{CHANNEL}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: max-bot}}\ndata: {{token: c2VjcmV0, \
             both: YQ==}}\nstringData: {{both: b}}\n---\napiVersion: v1\nkind: ConfigMap\n---\n- 1\n"
        );
        let manifests = read(&text);
        assert_eq!(manifests.errors, []);
        let channel = &manifests.channels[0];
        assert_eq!((channel.namespace.as_str(), channel.name.as_str(), channel.source.line), ("crm", "support", 3));
        assert_eq!(channel.place(&"spec.suspend".parse().unwrap()).to_string(), "a.yaml:7");
        assert_eq!(channel.place(&FieldPath::default()).to_string(), "a.yaml:3");
        let secret = manifests.secret("default", "max-bot").unwrap();
        assert_eq!(secret.source.line, 9);
        assert_eq!(secret.data["token"].expose_secret(), "secret");
        assert_eq!(secret.data["both"].expose_secret(), "b");
        let notes: Vec<String> = manifests.notes.iter().map(ToString::to_string).collect();
        assert_eq!(
            notes,
            [
                "a.yaml:15: skipped: ConfigMap is not read here",
                "a.yaml:18: skipped: it has no kind, so it is no manifest"
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_is_one_sentence_with_file_and_line_and_the_others_are_read() {
        for (text, expected) in [
            ("a: [\n", "a.yaml:2: not valid YAML: did not find expected node content"),
            (
                "apiVersion: maxchannel.dev/v2\nkind: MaxChannel\n",
                "a.yaml:1: maxchannel.dev/v2 MaxChannel is not known here: write apiVersion: maxchannel.dev/v1alpha1 and kind: \
                 MaxChannel",
            ),
            (
                "\n\nkind: MaxChannel\n",
                "a.yaml:3: (none) MaxChannel is not known here: write apiVersion: maxchannel.dev/v1alpha1 and kind: MaxChannel",
            ),
            (
                "apiVersion: maxchannel.dev/v1alpha1\nkind: MaxChannels\n",
                "a.yaml:1: maxchannel.dev/v1alpha1 MaxChannels is not known here: write apiVersion: maxchannel.dev/v1alpha1 and \
                 kind: MaxChannel",
            ),
            (
                "apiVersion: maxchannel.dev/v1alpha1\nkind: MaxChannel\n",
                "a.yaml:1: the MaxChannel has no name: give metadata.name, a text",
            ),
            (
                "apiVersion: v1\nkind: Secret\nmetadata: {name: 5}\n",
                "a.yaml:1: the Secret has no name: give metadata.name, a text",
            ),
            (
                "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {token: hidden!}\n",
                "a.yaml:1: Secret default/a: data.token is not base64: encode the value, or put it under stringData as it is",
            ),
            (
                "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {token: 12345}\n",
                "a.yaml:1: Secret default/a: stringData.token is not a text: put the value in quotes",
            ),
        ] {
            let manifests = read(&format!("{text}---\n{CHANNEL}"));
            let errors: Vec<String> = manifests.errors.iter().map(ToString::to_string).collect();
            assert_eq!(errors, [expected], "{text}");
            assert_eq!(manifests.channels.len(), 1, "{text}");
        }
    }

    #[test]
    fn a_name_that_stands_twice_is_refused_and_the_first_stays() {
        let mut manifests = read(CHANNEL);
        manifests.add("b.yaml", &CHANNEL.replace("suspend: 1", "suspend: 2"));
        manifests.add("c.yaml", &CHANNEL.replace("namespace: crm", "namespace: other"));
        assert_eq!(manifests.channels.len(), 2);
        assert_eq!(manifests.channels[0].value["spec"]["suspend"], 1);
        assert_eq!(
            manifests.errors[0].to_string(),
            "b.yaml:1: MaxChannel crm/support stands at a.yaml:1 already: remove one, or give it another name"
        );
    }

    #[test]
    fn a_list_is_read_like_its_items() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: maxchannel.dev/v1alpha1\n  kind: MaxChannel\n  metadata: {name: \
                    a}\n- apiVersion: v1\n  kind: Secret\n  metadata: {name: b}\n";
        let manifests = read(text);
        assert_eq!((manifests.channels[0].source.line, manifests.secrets[0].source.line), (4, 7));
    }

    #[test]
    fn the_debug_form_of_a_secret_hides_its_values() {
        let manifests = read("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {token: canary-9d1}\n");
        assert_eq!(manifests.secrets.len(), 1);
        assert!(!format!("{manifests:?}").contains("canary"), "{manifests:?}");
    }
}
