//! Reading of optional fields: absent, null and "not of the expected type" are the same, so that one odd field never costs a message
//! (MAX Bot API reference, "Wire conventions": optional means absent or null; tolerance rules of "Update types").

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_json::Value;

/// For `#[serde(default, deserialize_with = "lenient::option")]`.
pub(super) fn option<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

/// The same with the type's default in the place of what is not there.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(option(deserializer)?.unwrap_or_default())
}

/// A list whose elements are each read or left out.
pub(super) fn list<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let Value::Array(items) = Value::deserialize(deserializer)? else { return Ok(Vec::new()) };
    Ok(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect())
}
