//! The files of the package: descriptors, schemas, resources and rows, in the vendor's forms
//! (docs/reference/creatio-package.md).
//!
//! An object is written as its difference to the stock object `BaseEntity`: lines of an operation,
//! a path and a JSON value. [`apply`](super::difference::apply) reads them back. JSON is strict,
//! one member a line, without a byte order mark; every folder is written in the order of
//! [`definition`](super::definition).

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::File;
use super::definition::{self as def, Binding, Cell, Column, Object, Source, Words, id, package_id, schema_id};

/// `BaseEntity`, the stock parent of every object of ours.
pub const BASE_ENTITY: Uuid = Uuid::from_u128(0x1bab_9dcf_17d5_49f8_9536_8e00_64f1_dce0);
/// The parent's columns in their order: Id, CreatedOn, CreatedBy, ModifiedOn, ModifiedBy,
/// ProcessListeners.
pub const INHERITED: [&str; 6] = [
    "ae0e45ca-c495-4fe7-a39d-3ab7278e1617",
    "e80190a5-03b2-4095-90f7-a193a960adee",
    "ebf6bb93-8aa6-4a01-900d-c6ea67affe21",
    "9928edec-4272-425a-93bb-48743fee4b04",
    "3015559e-cbc6-406a-88af-07f7930be832",
    "3fabd836-6a53-4d8d-9069-6df88d9dae1e",
];
/// The base of every schema of source code.
const BASE_SOURCE_CODE: &str = "50e3acc0-26fc-4237-a095-849a1d534bd3";
/// The base of the process of an object's events.
const BASE_EVENTS_PROCESS: &str = "7bb7d6a5-e7a3-4837-83bc-7f785d688165";
const CULTURES: [&str; 2] = ["en-US", "ru-RU"];

pub(super) fn json(path: String, value: &Value) -> File {
    // A value in memory has no keys that are no texts.
    let mut content = serde_json::to_vec_pretty(value).unwrap_or_default();
    content.push(b'\n');
    File { path, content }
}

pub(super) fn date() -> String {
    format!("/Date({})/", def::MODIFIED_ON)
}

fn in_culture<'a>(words: &'a Words, culture: &str) -> &'a str {
    if culture == "ru-RU" { &words.russian } else { &words.english }
}

/// `descriptor.json` of the package. Form A (`assembly`) is compiled into a library of its own.
pub(super) fn descriptor(assembly: bool) -> File {
    let depends_on: Vec<Value> = def::depends_on()
        .iter()
        .map(|package| json!({ "UId": package.id, "PackageVersion": "7.8.0", "Name": package.name }))
        .collect();
    let mut descriptor = json!({
        "UId": package_id(),
        "PackageVersion": def::VERSION,
        "Name": def::NAME,
        "ModifiedOnUtc": date(),
        "Maintainer": def::MAINTAINER,
        "Description": "Connects MAX to the chats of Creatio",
        "DependsOn": depends_on,
    });
    if assembly {
        descriptor["Type"] = json!(1);
        descriptor["ProjectPath"] = json!(format!("Files/{}.csproj", def::NAME));
    }
    json("descriptor.json".to_owned(), &json!({ "Descriptor": descriptor }))
}

/// The four kinds of file of a schema of source code.
pub(super) fn source(source: &Source) -> Vec<File> {
    let name = source.name;
    let schema = schema_id(name);
    let package = package_id();
    let descriptor = json!({ "Descriptor": {
        "UId": schema, "Name": name, "ModifiedOnUtc": date(), "ManagerName": "SourceCodeSchemaManager",
        "Caption": name, "DependsOn": [],
    }});
    let metadata = json!({ "MetaData": { "Schema": {
        "ManagerName": "SourceCodeSchemaManager", "UId": schema, "A2": name, "A5": package,
        "B1": [], "B2": [], "B3": [], "B6": package, "B8": def::CREATED_IN, "HD1": BASE_SOURCE_CODE,
    }}});
    let folder = format!("Schemas/{name}");
    let mut files = vec![
        json(format!("{folder}/descriptor.json"), &descriptor),
        json(format!("{folder}/metadata.json"), &metadata),
        json(format!("{folder}/properties.json"), &json!({ "Properties": { "CreatedInVersion": def::CREATED_IN } })),
        File { path: format!("{folder}/{name}.cs"), content: source.code.as_bytes().to_vec() },
    ];
    for culture in CULTURES {
        files.push(resource(name, "SourceCode", culture, &[("Caption".to_owned(), name)]));
    }
    files
}

/// The files of an object.
pub(super) fn object(object: &Object) -> Vec<File> {
    let name = object.name.as_str();
    let descriptor = json!({ "Descriptor": {
        "UId": schema_id(name), "Name": name, "ModifiedOnUtc": date(),
        "Parent": { "UId": BASE_ENTITY, "Name": "BaseEntity" },
        "ManagerName": "EntitySchemaManager", "Caption": object.caption.english, "DependsOn": [],
    }});
    let properties = json!({ "Properties": {
        "AdministratedByColumns": "False", "AdministratedByOperations": "True", "AdministratedByRecords": "False",
        "CreatedInVersion": def::CREATED_IN, "IsSSPAvailable": "False", "IsTrackChangesInDB": "False",
        "IsVirtual": "False", "UseLiveEditing": "False",
    }});
    let folder = format!("Schemas/{name}");
    let mut files = vec![
        json(format!("{folder}/descriptor.json"), &descriptor),
        File { path: format!("{folder}/metadata.json"), content: difference(object).into_bytes() },
        json(format!("{folder}/properties.json"), &properties),
    ];
    for culture in CULTURES {
        let mut items = vec![("Caption".to_owned(), in_culture(&object.caption, culture))];
        let captions = object.columns.iter().map(|column| (format!("Columns.{}.Caption", column.name), &*column.name));
        items.extend(captions);
        files.push(resource(name, "Entity", culture, &items));
    }
    files
}

/// The object as its difference to [`BASE_ENTITY`]. `=` sets, `+` adds, `-` removes, `~` says the
/// order of a list.
fn difference(object: &Object) -> String {
    let name = object.name.as_str();
    let schema = schema_id(name);
    let package = package_id();
    let own = |uid: Uuid, called: &str| -> Map<String, Value> {
        let mut own = Map::new();
        own.insert("UId".to_owned(), json!(uid));
        own.insert("A2".to_owned(), json!(called));
        own.insert("A3".to_owned(), json!(schema));
        own.insert("A4".to_owned(), json!(schema));
        own.insert("A5".to_owned(), json!(package));
        own
    };
    let column_id = |column: &str| def::column_id(name, column);
    let mut lines = vec![
        set("UId", &json!(schema)),
        set("A2", &json!(name)),
        set("A5", &json!(package)),
        set("B6", &json!(package)),
        set("EG1.UId", &json!(id(&format!("events/{name}")))),
        set("EG1.A2", &json!(format!("{name}EventsProcess"))),
        set("EG1.A5", &json!(package)),
        set("EG1.BK8", &json!(BASE_EVENTS_PROCESS)),
        set("D8", &json!(BASE_ENTITY)),
    ];
    if let Some(display) = &object.display {
        lines.push(add("D4", &json!(column_id(display))));
    }
    // Rights by operation: customers' words are for the technical user and administrators only.
    lines.push(add("D15", &json!(true)));
    for Column { name: column, kind, required } in &object.columns {
        let mut value = own(column_id(column), column);
        value.insert("S2".to_owned(), json!(kind.id()));
        if *required {
            value.insert("E2".to_owned(), json!(1));
        }
        lines.push(add("D2", &Value::Object(value)));
    }
    let order: Vec<Value> = INHERITED
        .iter()
        .map(|inherited| json!(inherited))
        .chain(object.columns.iter().map(|column| json!(column_id(&column.name))))
        .collect();
    lines.push(format!("~ MetaData.Schema.D2 {}", Value::Array(order)));
    let mut keys = Vec::new();
    for (at, columns) in object.unique.iter().enumerate() {
        let key = format!("UQ_{name}_{}", columns.join("_"));
        let path = format!("index/{name}.{}", columns.join("."));
        let key_id = id(&path);
        // Columns of an object's first key keep the ids that they had when it was the only one.
        let parts = if at == 0 { format!("index/{name}") } else { path };
        let columns: Vec<Value> = columns
            .iter()
            .map(|column| {
                let mut value = own(id(&format!("{parts}/{column}")), &format!("IndexColumn_{column}"));
                value.insert("G1".to_owned(), json!(column_id(column)));
                Value::Object(value)
            })
            .collect();
        let mut value = own(key_id, &key);
        value.insert("F1".to_owned(), json!(false));
        value.insert("F2".to_owned(), json!(true));
        value.insert("F4".to_owned(), json!(columns));
        lines.push(add("D6", &Value::Object(value)));
        keys.push(json!(key_id));
    }
    if !keys.is_empty() {
        lines.push(format!("~ MetaData.Schema.D6 {}", Value::Array(keys)));
    }
    lines.push(set("D20.A2", &json!(format!("{name}Events"))));
    for path in ["EG1.B6", "EG1.BK29", "EG1.BK30", "D1", "D20.A5"] {
        lines.push(format!("- MetaData.Schema.{path}"));
    }
    for member in ["FA4", "FA5", "FA6", "FA7", "FA11", "FA12", "FA15"] {
        lines.push(format!("- MetaData.Schema.D20.{member}"));
    }
    lines.push(add("B7", &json!(false)));
    for inherited in INHERITED {
        lines.push(add(&format!("D2.[\"{inherited}\"].E16"), &json!(false)));
    }
    lines.join("\n") + "\n"
}

fn set(path: &str, value: &Value) -> String {
    format!("= MetaData.Schema.{path} {value:#}")
}

fn add(path: &str, value: &Value) -> String {
    format!("+ MetaData.Schema.{path} {value:#}")
}

fn resource(name: &str, kind: &str, culture: &str, items: &[(String, &str)]) -> File {
    let mut lines = String::new();
    for (name, value) in items {
        // Writing to a text cannot fail.
        let _ = writeln!(lines, "      <Item Name=\"{}\" Value=\"{}\" />", escaped(name), escaped(value));
    }
    let content = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Resources Culture=\"{culture}\">\n  <Group Type=\"String\">\n    \
         <Items>\n{lines}    </Items>\n  </Group>\n</Resources>\n"
    );
    File { path: format!("Resources/{name}.{kind}/resource.{culture}.xml"), content: content.into_bytes() }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The files of one binding: rows that the installation writes.
pub(super) fn binding(binding: &Binding) -> Vec<File> {
    let folder = format!("Data/{}", binding.name);
    let columns: Vec<Value> = binding
        .columns
        .iter()
        .map(|column| {
            json!({
                "ColumnUId": column.id, "IsForceUpdate": false, "IsKey": column.key,
                "ColumnName": column.name, "DataTypeValueUId": column.kind.id(),
            })
        })
        .collect();
    let descriptor = json!({ "Descriptor": {
        "UId": id(&format!("binding/{}", binding.name)), "Name": binding.name, "ModifiedOnUtc": date(),
        "InstallType": binding.install, "Schema": { "UId": binding.schema.1, "Name": binding.schema.0 },
        "Columns": columns,
    }});
    let cell = |place: usize, value: &Cell, culture: &str| {
        let column = &binding.columns[place];
        let value = match value {
            Cell::Id(id) => json!(id),
            Cell::Lookup(id, shown) => {
                return json!({ "SchemaColumnUId": column.id, "Value": id, "DisplayValue": shown });
            }
            Cell::Text(text) => json!(text),
            Cell::Localized(words) => json!(in_culture(words, culture)),
            Cell::Flag(flag) => json!(flag),
            Cell::Number(number) => json!(number),
            // The text null, as the vendor writes it.
            Cell::Null => json!("null"),
        };
        json!({ "SchemaColumnUId": column.id, "Value": value })
    };
    let rows: Vec<Value> = binding
        .rows
        .iter()
        .map(|row| {
            let cells: Vec<Value> = row.iter().enumerate().map(|(place, value)| cell(place, value, "en-US")).collect();
            json!({ "Row": cells })
        })
        .collect();
    let mut files = vec![
        json(format!("{folder}/descriptor.json"), &descriptor),
        json(format!("{folder}/data.json"), &json!({ "PackageData": rows })),
        File { path: format!("{folder}/filter.json"), content: Vec::new() },
    ];
    let localized = binding.rows.iter().any(|row| row.iter().any(|cell| matches!(cell, Cell::Localized(_))));
    if localized {
        for culture in CULTURES {
            let rows: Vec<Value> = binding
                .rows
                .iter()
                .map(|row| {
                    let cells: Vec<Value> = row
                        .iter()
                        .enumerate()
                        .filter(|(place, value)| {
                            binding.columns[*place].name == "Id" || matches!(value, Cell::Localized(_))
                        })
                        .map(|(place, value)| {
                            let mut cell = cell(place, value, culture);
                            cell["ColumnName"] = json!(binding.columns[place].name);
                            cell
                        })
                        .collect();
                    json!({ "Row": cells })
                })
                .collect();
            files.push(json(format!("{folder}/Localization/data.{culture}.json"), &json!({ "PackageData": rows })));
        }
    }
    files
}

/// The project of form A and what keeps it out of the site's main build. The site writes the
/// references of its own libraries anew; those under "3rd Party References" stay, and without them
/// the chat's classes are not found.
pub(super) fn project() -> Vec<File> {
    let name = def::NAME;
    let reference = |library: &str, hint: &str| {
        format!(
            "    <Reference Include=\"{library}\">\n      <HintPath>{hint}</HintPath>\n      \
             <SpecificVersion>False</SpecificVersion>\n      <Private>False</Private>\n    </Reference>\n"
        )
    };
    let core = |libraries: &[&str]| -> String {
        libraries.iter().map(|library| reference(library, &format!("$(CoreLibPath)/{library}.dll"))).collect()
    };
    let project = format!(
        r#"<Project Sdk="Microsoft.NET.Sdk">
  <PropertyGroup>
    <AppendTargetFrameworkToOutputPath>False</AppendTargetFrameworkToOutputPath>
    <CoreTargetFramework Condition="'$(CoreTargetFramework)' == ''">net472</CoreTargetFramework>
    <TargetFramework>$(CoreTargetFramework)</TargetFramework>
    <LangVersion>7.3</LangVersion>
    <EnableDefaultCompileItems>False</EnableDefaultCompileItems>
  </PropertyGroup>
  <PropertyGroup Label="Path">
    <RelativeCurrentPkgFolderPath Condition="'$(RelativeCurrentPkgFolderPath)' == ''">../</RelativeCurrentPkgFolderPath>
    <RelativePkgFolderPath Condition="'$(RelativePkgFolderPath)' == ''">$(RelativeCurrentPkgFolderPath)..</RelativePkgFolderPath>
    <ConfLibPath Condition="'$(ConfLibPath)' == ''">$(RelativePkgFolderPath)/../Lib</ConfLibPath>
  </PropertyGroup>
  <PropertyGroup Condition="'$(TargetFramework)' == 'net472'">
    <CoreLibPath Condition="'$(CoreLibPath)' == ''">$(RelativePkgFolderPath)/../../bin</CoreLibPath>
    <StandalonePackageAssemblyPath Condition="'$(StandalonePackageAssemblyPath)' == ''">Files/Bin</StandalonePackageAssemblyPath>
  </PropertyGroup>
  <PropertyGroup Condition="'$(TargetFramework)' == 'netstandard2.0'">
    <CoreLibPath Condition="'$(CoreLibPath)' == ''">$(RelativePkgFolderPath)/../..</CoreLibPath>
    <StandalonePackageAssemblyPath Condition="'$(StandalonePackageAssemblyPath)' == ''">Files/Bin/netstandard</StandalonePackageAssemblyPath>
  </PropertyGroup>
  <PropertyGroup>
    <OutputPath>$(RelativeCurrentPkgFolderPath)$(StandalonePackageAssemblyPath)</OutputPath>
  </PropertyGroup>
  <ItemGroup>
    <AssemblyAttribute Include="Terrasoft.Core.Attributes.PackageReferenceAssemblyAttribute">
      <_Parameter1>All</_Parameter1>
    </AssemblyAttribute>
  </ItemGroup>
  <ItemGroup>
    <Compile Include="$(RelativeCurrentPkgFolderPath)Schemas/**/*.cs" />
    <Compile Include="$(RelativeCurrentPkgFolderPath)Autogenerated/Src/**/*.cs" />
  </ItemGroup>
  <ItemGroup Condition="'$(TargetFramework)' == 'net472'">
    <Reference Include="System.ServiceModel" />
    <Reference Include="System.ServiceModel.Activation" />
    <Reference Include="System.ServiceModel.Web" />
    <Reference Include="System.Web" />
  </ItemGroup>
  <ItemGroup Condition="'$(TargetFramework)' == 'netstandard2.0'" Label="Core References">
{net}  </ItemGroup>
  <ItemGroup Label="Core References">
{both}  </ItemGroup>
  <ItemGroup Label="Package References" />
  <ItemGroup Label="3rd Party References">
{own}  </ItemGroup>
</Project>
"#,
        net = core(&["Terrasoft.ServiceModel.Primitives"]),
        both = core(&[
            "Terrasoft.Common",
            "Terrasoft.Core",
            "Terrasoft.Web.Common",
            "Terrasoft.Web.Http.Abstractions",
            "Terrasoft.File.Abstractions",
        ]),
        own = ["OmnichannelProviders", "OmnichannelMessaging"]
            .map(|library| reference(library, &format!("$(ConfLibPath)/{library}.OmnichannelMessaging.dll")))
            .concat()
            + &core(&["Common.Logging", "Common.Logging.Core"]),
    );
    let removed = |item: &str| {
        let folders = ["Assemblies", "Data", "SqlScripts", "Schemas", "Resources"];
        folders.map(|folder| format!("    <{item} Remove=\"$(PkgPath)/{name}/{folder}/**\" />\n")).concat()
    };
    let targets = format!(
        "<Project>\n  <ItemGroup Condition=\"'$(PkgPath)' != ''\">\n{}  </ItemGroup>\n</Project>\n",
        ["Compile", "EmbeddedResource", "None"].map(removed).concat()
    );
    let props = "<Project>\n  <ItemGroup Label=\"Entity Files\" />\n</Project>\n".to_owned();
    [
        (format!("Files/{name}.csproj"), project),
        ("Files/Directory.Build.props".to_owned(), props),
        ("Files/Directory.Build.targets".to_owned(), targets),
    ]
    .map(|(path, text)| File { path, content: text.into_bytes() })
    .to_vec()
}
