//! What the generator promises: one description, the vendor's forms, the same bytes, and nothing
//! that refers to nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::definition::{self as def, Cell, SOURCES, objects};
use super::metadata::{BASE_ENTITY, INHERITED};
use super::*;

/// Whether a path ends in the extension.
fn is(path: &str, extension: &str) -> bool {
    std::path::Path::new(path).extension().is_some_and(|own| own == extension)
}

/// The stock parent as far as a difference touches it (docs/reference/creatio-package.md,
/// "Objects").
fn base_entity() -> Value {
    let columns: Vec<Value> = ["Id", "CreatedOn", "CreatedBy", "ModifiedOn", "ModifiedBy", "ProcessListeners"]
        .into_iter()
        .zip(INHERITED)
        .map(|(name, uid)| json!({"UId": uid, "A2": name, "A3": BASE_ENTITY}))
        .collect();
    json!({"MetaData": {"Schema": {
        "ManagerName": "EntitySchemaManager", "UId": BASE_ENTITY, "A2": "BaseEntity", "A5": "core", "B6": "core",
        "D1": true, "D2": columns, "D8": "00000000-0000-0000-0000-000000000000",
        "D20": {"A2": "BaseEntityEvents", "A5": "core", "FA4": 0, "FA5": 0, "FA6": 0, "FA7": 0, "FA11": 0, "FA12": 0, "FA15": 0},
        "EG1": {"UId": "events", "A2": "BaseEntityEventsProcess", "A5": "core", "B6": "core", "BK8": "old", "BK29": 0, "BK30": 0},
    }}})
}

fn text(files: &[File], path: &str) -> String {
    let file = files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("no {path}"));
    String::from_utf8(file.content.clone()).unwrap()
}

#[test]
fn the_same_program_makes_the_same_bytes_and_reads_them_back() {
    for form in [Form::Assembly, Form::Simple] {
        let packed = package(form).unwrap();
        assert_eq!(packed, package(form).unwrap());
        assert_eq!(archive::unpack(&packed).unwrap(), files(form));
        let zipped = archive::zip(&archive_name(false), &packed).unwrap();
        assert_eq!(zipped, archive::zip(&archive_name(false), &packed).unwrap());
    }
}

#[test]
fn every_object_applies_to_the_stock_parent_and_has_the_columns_and_keys_it_was_described_with() {
    let files = files(Form::Assembly);
    for object in objects() {
        let difference = text(&files, &format!("Schemas/{}/metadata.json", object.name));
        let applied =
            difference::apply(&base_entity(), &difference).unwrap_or_else(|error| panic!("{}: {error}", object.name));
        let schema = &applied["MetaData"]["Schema"];
        assert_eq!(schema["A2"], object.name.as_str());
        assert_eq!(schema["UId"], json!(def::schema_id(&object.name)));
        assert_eq!(schema["D8"], json!(BASE_ENTITY));
        assert_eq!(schema["D15"], true, "{} has no rights of its own", object.name);
        assert_eq!(schema.get("D1"), None, "{} is virtual", object.name);
        let columns: Vec<(&str, &Value)> =
            schema["D2"].as_array().unwrap().iter().skip(6).map(|c| (c["A2"].as_str().unwrap(), &c["S2"])).collect();
        let kinds: Vec<Value> = object.columns.iter().map(|column| json!(column.kind.id())).collect();
        let described: Vec<(&str, &Value)> =
            object.columns.iter().map(|column| column.name.as_str()).zip(kinds.iter()).collect();
        assert_eq!(columns, described);
        let empty = Vec::new();
        let keys = schema["D6"].as_array().unwrap_or(&empty);
        assert_eq!(keys.len(), object.unique.len(), "{}", object.name);
        let mut seen = BTreeSet::new();
        for (key, written) in object.unique.iter().zip(keys) {
            for part in std::iter::once(written).chain(written["F4"].as_array().unwrap()) {
                assert!(seen.insert(part["UId"].to_string()), "{}: an id is given twice: {part}", object.name);
            }
            assert_eq!(written["F2"], true);
            let of: Vec<&str> = written["F4"]
                .as_array()
                .unwrap()
                .iter()
                .map(|part| {
                    let column = schema["D2"].as_array().unwrap().iter().find(|column| column["UId"] == part["G1"]);
                    column.unwrap()["A2"].as_str().unwrap()
                })
                .collect();
            assert_eq!(of, *key);
        }
    }
}

#[test]
fn all_json_is_strict_and_every_schema_has_its_descriptor_metadata_properties_and_two_languages() {
    let files = files(Form::Assembly);
    let by_path: BTreeMap<&str, &File> = files.iter().map(|file| (file.path.as_str(), file)).collect();
    assert_eq!(by_path.len(), files.len(), "two files have one path");
    for file in &files {
        let json = is(&file.path, "json") && !file.path.contains("/filter.");
        if json && !objects().iter().any(|object| file.path == format!("Schemas/{}/metadata.json", object.name)) {
            serde_json::from_slice::<Value>(&file.content).unwrap_or_else(|error| panic!("{}: {error}", file.path));
        }
    }
    let names = objects().iter().map(|object| (object.name.as_str(), "Entity"));
    for (name, kind) in names.chain(SOURCES.iter().map(|source| (source.name, "SourceCode"))) {
        assert!(name.len() <= 30, "{name} is longer than old databases take");
        for path in [
            format!("Schemas/{name}/descriptor.json"),
            format!("Schemas/{name}/metadata.json"),
            format!("Schemas/{name}/properties.json"),
            format!("Resources/{name}.{kind}/resource.en-US.xml"),
            format!("Resources/{name}.{kind}/resource.ru-RU.xml"),
        ] {
            assert!(by_path.contains_key(path.as_str()), "no {path}");
        }
    }
}

#[test]
fn no_id_is_given_twice_and_rows_refer_to_what_is_installed_before_them() {
    let mut seen = BTreeSet::new();
    for schema in objects().iter().map(|object| object.name.as_str()).chain(SOURCES.iter().map(|source| source.name)) {
        assert!(seen.insert(def::schema_id(schema)), "{schema}");
    }
    for binding in def::bindings() {
        assert_eq!(binding.columns.iter().filter(|column| column.key).count(), 1, "{}", binding.name);
        for row in &binding.rows {
            assert_eq!(row.len(), binding.columns.len(), "{}", binding.name);
            let Cell::Id(own) = row[0] else { panic!("{} does not begin with the id", binding.name) };
            assert!(seen.insert(own), "{} has an id of something else", binding.name);
        }
    }
}

#[test]
fn only_form_a_has_a_project_and_no_form_has_a_library_or_sql() {
    let paths = |form| files(form).into_iter().map(|file| file.path).collect::<Vec<_>>();
    let descriptor = |form| {
        let descriptor: Value = serde_json::from_str(&text(&files(form), "descriptor.json")).unwrap();
        descriptor["Descriptor"]["Type"].clone()
    };
    assert!(paths(Form::Assembly).contains(&"Files/MaxChannel.csproj".to_owned()));
    assert!(!paths(Form::Simple).iter().any(|path| path.starts_with("Files/")));
    assert_eq!((descriptor(Form::Assembly), descriptor(Form::Simple)), (json!(1), Value::Null));
    for path in paths(Form::Assembly) {
        assert!(!is(&path, "dll") && !path.starts_with("Assemblies/") && !path.starts_with("SqlScripts/"), "{path}");
    }
}

/// What is said in two places is the same in both: the description, the C# sources, the program.
#[test]
fn names_version_and_sources_are_the_same_wherever_they_are_said() {
    let description: Value = serde_json::from_str(include_str!("../../creatio/objects.json")).unwrap();
    let package = &description["package"];
    assert_eq!(
        (&package["name"], &package["version"], &package["maintainer"]),
        (&json!(NAME), &json!(VERSION), &json!(def::MAINTAINER))
    );
    let names = SOURCES.iter().find(|source| source.name == "MaxNames").unwrap().code;
    assert!(names.contains(&format!("Version = \"{VERSION}\"")), "the C# sources say another version");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("creatio/src");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| is(name, "cs"))
        .collect();
    files.sort();
    assert_eq!(files, SOURCES.iter().map(|source| format!("{}.cs", source.name)).collect::<Vec<_>>());
    let provider = def::bindings().into_iter().find(|binding| binding.schema.0 == "ChannelProvider").unwrap();
    assert!(matches!(provider.rows[0][0], Cell::Id(id) if id == def::id("channel-provider/MAX")));
}

/// A site takes an upgrade only with another version and another date: whoever changes what is in
/// the package sees this test fail, and raises `VERSION`, `MODIFIED_ON` and the C# constant before
/// he accepts the new snapshot.
#[test]
fn what_is_in_the_package_of_this_version() {
    let shown = |file: &File| {
        if is(&file.path, "cs") {
            Sha256::digest(&file.content).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
        } else {
            String::from_utf8_lossy(&file.content).into_owned()
        }
    };
    let files = files(Form::Assembly);
    let listing: Vec<String> = files.iter().map(|file| format!("==== {}\n{}\n", file.path, shown(file))).collect();
    insta::assert_snapshot!(listing.concat());
}
