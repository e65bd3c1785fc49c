//! What the package holds: the objects of `creatio/objects.json`, the sources of `creatio/src`, and
//! the rows that the installation writes.
//!
//! Names and ids are for ever: the site finds package, schemas, columns and rows by their ids
//! alone, and tables and OData collections are called as the objects are. Ids that are ours are
//! UUIDv5 of what they name. Ids of stock schemas and columns are the vendor's
//! (docs/reference/creatio-package.md, "Stock ids").

use std::sync::LazyLock;

use serde::Deserialize;
use uuid::Uuid;

/// The package's name: folder, archive and record on the site.
pub const NAME: &str = "MaxChannel";
/// The package's version, raised with every change of what it holds; `ping` answers it.
pub const VERSION: &str = "1.0.0";
/// When [`VERSION`] was made, milliseconds since 1970 in whole seconds: a site takes an upgrade
/// only where this differs.
pub const MODIFIED_ON: i64 = 1_795_910_400_000;
/// Who publishes it. On a site whose own publisher has another name the package is read-only, as it
/// should be.
pub const MAINTAINER: &str = "MaxChannel";
/// The oldest version of Creatio for which schemas are written.
pub const CREATED_IN: &str = "8.1.0.0";

/// Namespace of all ids that are ours (UUIDv5 of the DNS name `maxchannel.dev`).
const NAMESPACE: Uuid = Uuid::from_u128(0xbab0_6c62_a577_5588_8533_7dd8_7715_2375);

/// The id of something of ours, by what it is: `package/MaxChannel`, `schema/MaxOutbox`,
/// `column/MaxOutbox.Seq`.
pub fn id(what: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, what.as_bytes())
}

/// The id of the package.
pub fn package_id() -> Uuid {
    id(&format!("package/{NAME}"))
}

/// The id of one of our schemas.
pub fn schema_id(schema: &str) -> Uuid {
    id(&format!("schema/{schema}"))
}

/// The id of a column of one of our objects.
pub fn column_id(object: &str, column: &str) -> Uuid {
    id(&format!("column/{object}.{column}"))
}

/// A text in the two languages of the package.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Words {
    #[serde(rename = "en")]
    pub english: String,
    #[serde(rename = "ru")]
    pub russian: String,
}

fn words(english: &str, russian: &str) -> Words {
    Words { english: english.to_owned(), russian: russian.to_owned() }
}

/// What `creatio/objects.json` says.
#[derive(Debug, Deserialize)]
struct Description {
    package: PackageDescription,
    objects: Vec<Object>,
    rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PackageDescription {
    depends_on: Vec<Dependency>,
}

/// A package that ours stands on.
#[derive(Clone, Debug, Deserialize)]
pub struct Dependency {
    pub name: String,
    pub id: Uuid,
}

/// A row that the installation writes, by the names of its columns.
#[derive(Debug, Deserialize)]
struct Row {
    object: String,
    values: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    caption: Option<Words>,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Type {
    Guid,
    /// 32 bit; there is no longer one.
    Integer,
    Boolean,
    DateTime,
    /// Up to 50 characters.
    ShortText,
    /// Up to 250 characters.
    MediumText,
    /// Up to 500 characters.
    LongText,
    MaxSizeText,
    Lookup,
}

impl Type {
    /// The vendor's id of the type.
    pub const fn id(self) -> Uuid {
        Uuid::from_u128(match self {
            Self::Guid => 0x2301_8567_a13c_4320_8687_fd6f_9e36_99bd,
            Self::Integer => 0x6b6b_74e2_820d_490e_a017_2b73_d4cc_f2b0,
            Self::Boolean => 0x90b6_5bf8_0ffc_4141_8779_2420_877a_f907,
            Self::DateTime => 0xd21e_9ef4_c064_4012_b286_fa1a_8171_da44,
            Self::ShortText => 0x325a_73b8_0f47_44a0_8412_7606_f780_03ac,
            Self::MediumText => 0xddb3_a1ee_07e8_4d62_b7a9_d0e6_18b0_0fbd,
            Self::LongText => 0x5ca3_5f10_a101_4c67_a96a_383d_a6af_acfc,
            Self::MaxSizeText => 0xc0f0_4627_4620_4bc0_84e5_9419_dc85_16b1,
            Self::Lookup => 0xb295_071f_7ea9_4e62_8d1a_919b_f373_2ff2,
        })
    }
}

/// One of our objects: a table, an OData collection, and rights by operation.
#[derive(Clone, Debug, Deserialize)]
pub struct Object {
    pub name: String,
    pub caption: Words,
    pub columns: Vec<Column>,
    /// The column that stands for a row.
    #[serde(default)]
    pub display: Option<String>,
    /// Unique keys, by the names of their columns.
    pub unique: Vec<Vec<String>>,
    pub rights: Rights,
}

/// A column of one of our objects.
#[derive(Clone, Debug, Deserialize)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Type,
    /// The application refuses a row without it.
    #[serde(default)]
    pub required: bool,
}

/// What an administrator grants the technical user on an object: `read`, `append`, `edit`,
/// `delete`.
#[derive(Clone, Debug, Deserialize)]
pub struct Rights {
    pub technical: Vec<String>,
}

static DESCRIPTION: LazyLock<Description> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../creatio/objects.json"))
        .expect("the description is compiled in, and a test reads it")
});

/// The objects, in the order in which they are installed.
pub fn objects() -> &'static [Object] {
    &DESCRIPTION.objects
}

/// The packages that ours stands on.
pub fn depends_on() -> &'static [Dependency] {
    &DESCRIPTION.package.depends_on
}

/// A schema of C# source code: folder, file and class are called alike.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    pub name: &'static str,
    pub code: &'static str,
}

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        &[$(Source { name: $name, code: include_str!(concat!("../../creatio/src/", $name, ".cs")) }),*]
    };
}

/// The sources that the site compiles; a test holds the list against the folder.
pub const SOURCES: &[Source] = sources![
    "MaxChannelService",
    "MaxCleanup",
    "MaxDatabase",
    "MaxInbox",
    "MaxListeners",
    "MaxNames",
    "MaxOutboxWriter",
    "MaxRequestRules",
    "MaxText",
    "MaxWorkers",
];

/// A column of a binding.
#[derive(Clone, Debug)]
pub struct StockColumn {
    pub name: String,
    pub id: Uuid,
    pub kind: Type,
    /// Rows are matched by it.
    pub key: bool,
}

/// A value in a row.
#[derive(Clone, Debug)]
pub enum Cell {
    Id(Uuid),
    /// The row referred to, and how it is called.
    Lookup(Uuid, &'static str),
    Text(String),
    Localized(Words),
    Flag(bool),
    Number(i64),
    Null,
}

/// Rows of one stock or own object that the installation writes.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Folder and name.
    pub name: String,
    /// Name and id of the object.
    pub schema: (String, Uuid),
    /// 0: inserted at the first installation and updated later; 1: at the first installation only.
    pub install: u8,
    pub columns: Vec<StockColumn>,
    pub rows: Vec<Vec<Cell>>,
}

fn stock(name: &str, id: u128, kind: Type) -> StockColumn {
    StockColumn { name: name.to_owned(), id: Uuid::from_u128(id), kind, key: false }
}

/// The primary key of every object.
fn id_column() -> StockColumn {
    StockColumn { key: true, ..stock("Id", 0xae0e_45ca_c495_4fe7_a39d_3ab7_278e_1617, Type::Guid) }
}

/// Stock objects into which rows are written: name, id, columns (docs/reference/creatio-package.md,
/// "Stock ids").
fn stock_object(name: &str) -> Option<(Uuid, Vec<StockColumn>)> {
    let lookup_name = || stock("Name", 0x736c_30a7_c0ec_4fa9_b034_2552_b319_b633, Type::MediumText);
    let (id, columns) = match name {
        "ChannelProvider" => (0xa1be_b75e_87bf_4400_9c5e_445a_adcc_5f05, vec![lookup_name()]),
        "SysSettings" => (
            0x27ae_add6_d508_4572_8061_5b55_b667_c902,
            vec![
                lookup_name(),
                stock("Code", 0x13aa_d544_ec30_4e76_a373_f0cf_f320_2e24, Type::ShortText),
                stock("ValueTypeName", 0xf796_0a8a_1fd4_41d2_997a_fd78_ea60_075f, Type::ShortText),
                stock("IsPersonal", 0x764c_d95a_59b3_4060_b17f_2797_d5c7_6aaa, Type::Boolean),
                stock("IsCacheable", 0xeb97_1f1a_dd41_4668_99aa_1f2a_6b61_a1b9, Type::Boolean),
                stock("ReferenceSchemaUId", 0xb228_0617_35f9_4006_8634_c557_a2e1_21c2, Type::Guid),
                stock("IsSSPAvailable", 0x64fa_dca1_ab7c_4471_9d25_6859_9acc_729b, Type::Boolean),
            ],
        ),
        "SysAdminOperation" => (
            0xc8fd_2fd0_1f44_48c7_84e4_0452_50b9_a638,
            vec![lookup_name(), stock("Code", 0x2aec_9cef_232e_413a_9a5a_9ddd_e2e8_a2af, Type::MediumText)],
        ),
        _ => return None,
    };
    Some((Uuid::from_u128(id), columns))
}

/// All rows that are installed, referenced ones before those that refer to them.
pub fn bindings() -> Vec<Binding> {
    DESCRIPTION.rows.iter().map(binding).chain(objects().iter().map(rights)).collect()
}

fn binding(row: &Row) -> Binding {
    let own = objects().iter().find(|object| object.name == row.object);
    let (schema, mut columns) = match own {
        Some(object) => {
            let column = |column: &Column| StockColumn {
                name: column.name.clone(),
                id: column_id(&object.name, &column.name),
                kind: column.kind,
                key: false,
            };
            (schema_id(&object.name), object.columns.iter().map(column).collect())
        }
        None => stock_object(&row.object).expect("a test builds every row of the description"),
    };
    let text = |name: &str| row.values.get(name).and_then(serde_json::Value::as_str);
    let called = text("Code").or_else(|| text("Name")).unwrap_or_default();
    let row_id = text("Id")
        .and_then(|id| Uuid::parse_str(id).ok())
        .unwrap_or_else(|| id(&format!("row/{}/{called}", row.object)));
    let cells = columns.iter().map(|column| match (row.values.get(&column.name), &row.caption) {
        (None, Some(caption)) if column.name == "Name" => Cell::Localized(caption.clone()),
        (Some(serde_json::Value::String(text)), _) if column.name == "Name" && own.is_none() => {
            Cell::Localized(words(text, text))
        }
        (Some(serde_json::Value::String(text)), _) => Cell::Text(text.clone()),
        (Some(serde_json::Value::Number(number)), _) => Cell::Number(number.as_i64().unwrap_or_default()),
        (Some(serde_json::Value::Bool(flag)), _) => Cell::Flag(*flag),
        // A setting's value is the same for all requests, and kept in memory.
        (_, _) if column.kind == Type::Boolean => Cell::Flag(column.name == "IsCacheable"),
        _ => Cell::Null,
    });
    let cells = std::iter::once(Cell::Id(row_id)).chain(cells).collect();
    columns.insert(0, id_column());
    Binding {
        name: format!("{}_{called}", row.object),
        schema: (row.object.clone(), schema),
        // A counter goes on where it was.
        install: u8::from(own.is_some()),
        columns,
        rows: vec![cells],
    }
}

/// Who may do what with an object: administrators everything, everybody else nothing until an
/// administrator says so.
fn rights(object: &Object) -> Binding {
    let may = |position: i64, unit: Uuid, name: &'static str, allowed: bool| {
        vec![
            Cell::Id(id(&format!("right/{}/{position}", object.name))),
            Cell::Id(schema_id(&object.name)),
            Cell::Lookup(unit, name),
            Cell::Flag(allowed),
            Cell::Flag(allowed),
            Cell::Flag(allowed),
            Cell::Flag(allowed),
            Cell::Number(position),
        ]
    };
    let administrators = Uuid::from_u128(0x83a4_3ebc_f36b_1410_298d_001e_8c82_bcad);
    let everybody = Uuid::from_u128(0xa29a_3ba5_4b0d_de11_9a51_0050_56c0_0008);
    Binding {
        name: format!("SysEntitySchemaOperationRight_{}", object.name),
        schema: (
            "SysEntitySchemaOperationRight".to_owned(),
            Uuid::from_u128(0xf028_c2c5_facc_4109_8cfa_75b2_b662_0527),
        ),
        install: 0,
        columns: vec![
            id_column(),
            stock("SubjectSchemaUId", 0x134c_280f_f7a7_4ac5_beeb_4ab1_ed9e_4ff5, Type::Guid),
            stock("SysAdminUnit", 0xd27e_9964_a7a6_46dd_9f9a_7cb4_70c3_3b98, Type::Lookup),
            stock("CanRead", 0xa3dc_68d6_f74e_4a57_8411_77a8_8dfe_0bbb, Type::Boolean),
            stock("CanAppend", 0x21a6_1238_45dc_4089_9882_cc1b_e097_cbf8, Type::Boolean),
            stock("CanEdit", 0x379b_41a2_dfb5_4069_a267_88ec_0653_e391, Type::Boolean),
            stock("CanDelete", 0x2cda_2c20_d48a_44d0_b266_5542_730b_1ad9, Type::Boolean),
            stock("Position", 0xa725_32ba_4755_4b2f_8079_c382_ae6d_0e9a, Type::Integer),
        ],
        rows: vec![may(0, administrators, "System administrators", true), may(1, everybody, "All employees", false)],
    }
}
