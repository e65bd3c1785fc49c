//! Manifests as texts: several YAML documents become channels and Secrets, and what cannot be read
//! becomes sentences with file and line.
//!
//! No I/O. A broken document never hides the others. The values of Secrets are in [`SecretString`]
//! from here on, and no error, note or `Debug` shows them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::SecretString;
use serde_json::Value;

use super::{
    Finding, MaxChannel, Severity,
    crd::{API_VERSION, GROUP, KIND},
    findings,
    path::FieldPath,
    yaml::{self, Document, Lines, Misread, YamlError},
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub place: Source,
    /// Empty where the document as a whole is meant.
    pub field: FieldPath,
    pub message: String,
}

impl Note {
    fn new(place: Source, message: impl Into<String>) -> Self {
        Self { place, field: FieldPath::default(), message: message.into() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, field, message } = self;
        if field.is_empty() { write!(f, "{place}: {message}") } else { write!(f, "{place}: {field}: {message}") }
    }
}

/// A `MaxChannel` as it was written; whether it is right is told by [`ChannelManifest::findings`].
#[derive(Clone, Debug)]
pub struct ChannelManifest {
    pub namespace: String,
    pub name: String,
    pub value: Value,
    pub source: Source,
    lines: Lines,
    /// What others may read differently than kubectl, with its line.
    misread: Vec<(usize, Finding)>,
}

impl ChannelManifest {
    /// The place of a field or, where it is missing, of the nearest thing around it.
    pub fn place(&self, field: &FieldPath) -> Source {
        let line = if field.is_empty() { self.source.line } else { self.lines.of(field) };
        Source { file: self.source.file.clone(), line }
    }

    /// Everything that is wrong with it, each with its place. What is said of the way it is written
    /// is not said of the value again.
    pub fn findings(&self) -> Vec<(Source, Finding)> {
        self.with_misread(findings::findings(&self.value))
    }

    /// The channel, where nothing but warnings is found.
    ///
    /// # Errors
    /// All findings, of which at least one is an error.
    pub fn parse(&self) -> Result<MaxChannel, Vec<(Source, Finding)>> {
        let sound = self.misread.iter().all(|(_, finding)| finding.severity == Severity::Warning);
        match findings::parse(&self.value) {
            Ok(channel) if sound => Ok(channel),
            Ok(_) => Err(self.with_misread(Vec::new())),
            Err(found) => Err(self.with_misread(found)),
        }
    }

    fn with_misread(&self, found: Vec<Finding>) -> Vec<(Source, Finding)> {
        let told: HashSet<&FieldPath> = self.misread.iter().map(|(_, finding)| &finding.field).collect();
        let found = found.into_iter().filter(|finding| !told.contains(&finding.field));
        let found: Vec<_> = found.map(|finding| (self.place(&finding.field), finding)).collect();
        let file = &self.source.file;
        let misread =
            self.misread.iter().map(|(line, finding)| (Source { file: file.clone(), line: *line }, finding.clone()));
        misread.chain(found).collect()
    }
}

/// A Secret; both `data` and `stringData` are read, and the latter wins, as in Kubernetes.
#[derive(Clone, Debug)]
pub struct SecretManifest {
    pub namespace: String,
    pub name: String,
    pub data: BTreeMap<String, SecretString>,
    /// The keys whose values are no texts in UTF-8, which are in `data` of a Secret and not here.
    pub binary: BTreeSet<String>,
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
    /// Where in `channels` or `secrets` a kind, namespace and name stand.
    index: HashMap<(Kind, String, String), usize>,
    /// Namespace and name of Secrets that are given but cannot be read here.
    closed: HashSet<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Channel,
    Secret,
}

impl Manifests {
    /// Reads the documents of one file. A second manifest of the same kind, namespace and name is
    /// an error, and the first stays.
    pub fn add(&mut self, file: &str, text: &str) {
        let is_json = Path::new(file).extension().is_some_and(|end| end.eq_ignore_ascii_case("json"));
        for document in yaml::documents(text, is_json) {
            match document {
                Ok(document) => self.add_document(file, document),
                Err(YamlError { line, message }) => {
                    self.errors.push(Note::new(Source { file: file.to_owned(), line }, message));
                }
            }
        }
    }

    /// The Secret of that namespace and name.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<&SecretManifest> {
        let place = self.index.get(&(Kind::Secret, namespace.to_owned(), name.to_owned()))?;
        self.secrets.get(*place)
    }

    /// Whether a Secret of that namespace and name is given, readable or not.
    pub fn has_secret(&self, namespace: &str, name: &str) -> bool {
        self.secret(namespace, name).is_some() || self.closed.contains(&(namespace.to_owned(), name.to_owned()))
    }

    /// What could not be read, and what others may read differently than kubectl: none of it may be
    /// taken for granted.
    pub fn doubts(&self) -> impl Iterator<Item = Note> {
        let misread = self.channels.iter().flat_map(|channel| {
            let errors = channel.misread.iter().filter(|(_, finding)| finding.severity == Severity::Error);
            errors.map(|(line, finding)| Note {
                place: Source { file: channel.source.file.clone(), line: *line },
                field: finding.field.clone(),
                message: finding.message.clone(),
            })
        });
        self.errors.iter().cloned().chain(misread)
    }

    fn add_document(&mut self, file: &str, document: Document) {
        let Document { mut value, lines, misread } = document;
        if value["kind"] != "List" || value["apiVersion"] != "v1" {
            return self.take(file, Document { value, lines, misread });
        }
        let items = match value.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            None | Some(Value::Null) => Vec::new(),
            Some(_) => {
                let place = Source { file: file.to_owned(), line: lines.line };
                return self
                    .errors
                    .push(Note::new(place, "items is not a list: write one line with - for each object"));
            }
        };
        let mut below: Vec<Vec<Misread>> = vec![Vec::new(); items.len()];
        for one in misread {
            let Some((index, field)) = one.field.item_of("items") else { continue };
            if let Some(list) = below.get_mut(index) {
                list.push(Misread { field, ..one });
            }
        }
        for ((value, lines), misread) in items.into_iter().zip(lines.items("items")).zip(below) {
            self.take(file, Document { value, lines, misread });
        }
    }

    fn take(&mut self, file: &str, document: Document) {
        let Document { value, lines, misread } = document;
        let source = Source { file: file.to_owned(), line: lines.line };
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        let (kind, api_version) = (text("/kind").unwrap_or_default(), text("/apiVersion").unwrap_or_default());
        let ours = kind == KIND || api_version.split('/').next() == Some(GROUP);
        let place = |field: &str| {
            let field: FieldPath = field.parse().unwrap_or_default();
            (Source { file: file.to_owned(), line: lines.of(&field) }, field)
        };
        let error = if kind.is_empty() && !ours {
            self.notes.push(Note::new(source, "skipped: it has no kind, so it is no manifest"));
            return;
        } else if ours && (kind, api_version) != (KIND, API_VERSION) {
            let message = format!(
                "{} {} is not known here: write apiVersion: {API_VERSION} and kind: {KIND}",
                shown(api_version),
                shown(kind)
            );
            Some((source.clone(), FieldPath::default(), message))
        } else if !ours && (kind, api_version) != ("Secret", "v1") {
            self.notes.push(Note::new(source, format!("skipped: {} is not read here", shown(kind))));
            return;
        } else if !ours && value.get("sops").is_some() {
            self.notes.push(Note::new(source, "skipped: the Secret is encrypted, and only its name is known"));
            let namespace = text("/metadata/namespace").unwrap_or(DEFAULT_NAMESPACE);
            self.closed.insert((namespace.to_owned(), text("/metadata/name").unwrap_or_default().to_owned()));
            return;
        } else if text("/metadata/name").is_none_or(str::is_empty) {
            let (place, field) = place("metadata.name");
            let given = value.pointer("/metadata/name").filter(|name| !name.is_null() && **name != "");
            let what = match given {
                Some(_) => format!("the name of the {kind} is not a text: put it in quotes"),
                None => format!("the {kind} has no name: give metadata.name, a text"),
            };
            Some((place, field, what))
        } else if value.pointer("/metadata/namespace").is_some_and(|namespace| !namespace.is_string()) {
            let (place, field) = place("metadata.namespace");
            Some((place, field, format!("the namespace of the {kind} is not a text: put it in quotes or remove it")))
        } else {
            None
        };
        if let Some((place, field, message)) = error {
            self.errors.push(Note { place, field, message });
            return;
        }
        let name = text("/metadata/name").unwrap_or_default().to_owned();
        let namespace =
            text("/metadata/namespace").filter(|text| !text.is_empty()).unwrap_or(DEFAULT_NAMESPACE).to_owned();
        let what = if ours { Kind::Channel } else { Kind::Secret };
        let key = (what, namespace.clone(), name.clone());
        if let Some(first) = self.index.get(&key) {
            let first = match what {
                Kind::Channel => &self.channels[*first].source,
                Kind::Secret => &self.secrets[*first].source,
            };
            let message =
                format!("{kind} {namespace}/{name} stands at {first} already: remove one, or give it another name");
            self.errors.push(Note::new(source, message));
        } else if what == Kind::Channel {
            self.index.insert(key, self.channels.len());
            let misread = misread.into_iter().map(|one| {
                let severity = if one.mild { Severity::Warning } else { Severity::Error };
                (one.line, Finding { severity, field: one.field, message: one.message })
            });
            let misread = misread.collect();
            self.channels.push(ChannelManifest { namespace, name, value, source, lines, misread });
        } else {
            self.take_secret(key, file, Document { value, lines, misread });
        }
    }

    fn take_secret(&mut self, key: (Kind, String, String), file: &str, document: Document) {
        let Document { value, lines, misread } = document;
        let (_, namespace, name) = &key;
        let place = |line: usize| Source { file: file.to_owned(), line };
        let mut problems: Vec<(FieldPath, String)> = findings::secret_problems(&value);
        let mut secret = SecretManifest {
            namespace: namespace.clone(),
            name: name.clone(),
            data: BTreeMap::new(),
            binary: BTreeSet::new(),
            source: place(lines.line),
        };
        secret_data(&value, &mut secret, &mut problems);
        let told: HashSet<FieldPath> = misread.iter().map(|one| one.field.clone()).collect();
        let whose = |message: String| format!("{message} (Secret {namespace}/{name})");
        let misread = misread.into_iter().filter(|one| !one.mild);
        let mut notes: Vec<Note> =
            misread.map(|one| Note { place: place(one.line), field: one.field, message: whose(one.message) }).collect();
        let problems = problems.into_iter().filter(|(field, _)| !told.contains(field));
        notes.extend(problems.map(|(field, message)| Note {
            place: place(lines.of(&field)),
            field,
            message: whose(message),
        }));
        if notes.is_empty() {
            self.index.insert(key, self.secrets.len());
            self.secrets.push(secret);
        } else {
            self.errors.extend(notes);
            self.closed.insert((key.1, key.2));
        }
    }
}

fn shown(text: &str) -> &str {
    if text.is_empty() { "(none)" } else { text }
}

fn secret_data(value: &Value, secret: &mut SecretManifest, problems: &mut Vec<(FieldPath, String)>) {
    for member in ["data", "stringData"] {
        let field = FieldPath::default().key(member);
        let entries = match &value[member] {
            Value::Null => continue,
            Value::Object(entries) => entries,
            _ => {
                problems.push((field, "is not a mapping of keys to texts".to_owned()));
                continue;
            }
        };
        for (key, value) in entries {
            let text = match value {
                Value::String(text) => text.as_str(),
                // The API server takes it for an empty one.
                Value::Null => "",
                _ => {
                    problems.push((field.key(key), "is not a text: put the value in quotes".to_owned()));
                    continue;
                }
            };
            // Nothing else: a password may have braces.
            if text.starts_with("{{") && text.ends_with("}}") {
                problems.push((field.key(key), yaml::TEMPLATE.to_owned()));
            } else if member == "stringData" {
                secret.binary.remove(key);
                secret.data.insert(key.clone(), SecretString::from(text));
            } else {
                let packed: String = text.split(['\r', '\n']).collect();
                match STANDARD.decode(packed).map(String::from_utf8) {
                    Ok(Ok(text)) => {
                        secret.data.insert(key.clone(), SecretString::from(text));
                    }
                    Ok(Err(_)) => {
                        secret.binary.insert(key.clone());
                    }
                    Err(_) => {
                        let message = "is not base64: encode the value, or put it under stringData as it is";
                        problems.push((field.key(key), message.to_owned()));
                    }
                }
            }
        }
    }
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
                "a.yaml:1: metadata.name: the MaxChannel has no name: give metadata.name, a text",
            ),
            (
                "apiVersion: v1\nkind: Secret\nmetadata: {name: 5}\n",
                "a.yaml:3: metadata.name: the name of the Secret is not a text: put it in quotes",
            ),
            (
                "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {token: hidden!}\n",
                "a.yaml:4: data.token: is not base64: encode the value, or put it under stringData as it is (Secret default/a)",
            ),
            (
                "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {token: 12345}\n",
                "a.yaml:4: stringData.token: is not a text: put the value in quotes (Secret default/a)",
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
