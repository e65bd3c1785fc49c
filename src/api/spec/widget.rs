//! The button on the company's site that leads to the bot.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The button on the company's site, as `maxchannel widget` makes it, and where customers come
/// from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Widget {
    /// A line beside the button, 1 to 250 characters. Absent: there is only the button.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 250))]
    pub greeting: Option<String>,
    /// Where customers may come from, at most 50: pages, leaflets, places. The agent reads the
    /// title when the customer writes.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub sources: Vec<WidgetSource>,
}

/// One place from which customers come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WidgetSource {
    /// The name in the link and in the metrics, 1 to 32 characters: lower-case Latin letters,
    /// digits and hyphens. Do not change it once the link is printed.
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// What the agent reads, 1 to 100 characters.
    #[schemars(length(min = 1, max = 100))]
    pub title: String,
}
