//! A relay's volume claim is enlarged in place. The StatefulSet's template of it cannot be changed
//! and is left as it is, so that the relay is not restarted for it.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::context::Context;
use super::{Error, names};
use crate::api::ChannelRef;
use crate::api::Reason;
use crate::channel::report::Unapplied;
use crate::contract::Undelivered;

/// Keeps the template of the claim that the StatefulSet has: the claim itself is what changes.
pub fn keep_template(wanted: &mut StatefulSet, found: &StatefulSet) {
    let template = |set: &StatefulSet| set.spec.as_ref()?.volume_claim_templates.as_ref()?.first()?.spec.clone();
    let Some(found) = template(found) else { return };
    let wanted = wanted.spec.as_mut().and_then(|spec| spec.volume_claim_templates.as_mut()?.first_mut()?.spec.as_mut());
    if let Some(wanted) = wanted {
        wanted.resources = found.resources;
        wanted.storage_class_name = found.storage_class_name;
    }
}

/// Brings the claim to what is wanted; what is in the way, if anything is.
///
/// # Errors
/// The API server refuses, or does not answer.
pub async fn resize(
    context: &Context,
    channel: &ChannelRef,
    size: &str,
    class: Option<&str>,
) -> Result<(bool, Option<Unapplied>), Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.writer.client().clone(), &channel.namespace);
    let name = names::claim(&channel.name);
    let Some(claim) = api.get_opt(&name).await? else { return Ok((false, None)) };
    let is_ours = claim.labels().get(names::LABEL_INSTANCE) == Some(&channel.name);
    let Some(spec) = claim.spec.as_ref().filter(|_| is_ours && claim.metadata.deletion_timestamp.is_none()) else {
        return Ok((false, None));
    };
    let has = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("storage"));
    let has = has.map_or("", |quantity| quantity.0.as_str());
    let object = format!("PersistentVolumeClaim {name}");
    let in_the_way =
        |detail: String| Ok((false, Some(Unapplied { reason: Reason::VolumeNotResized, detail, is_harmless: false })));
    if let Some(class) = class
        && spec.storage_class_name.as_deref() != Some(class)
    {
        let before = spec
            .storage_class_name
            .as_deref()
            .map_or("no StorageClass".to_owned(), |it| format!("the StorageClass {it}"));
        return in_the_way(format!("{object} has {before}, which cannot be changed to {class}"));
    }
    let (Some(now), Some(wanted)) = (bytes(has), bytes(size)) else { return Ok((false, None)) };
    if wanted < now {
        return in_the_way(format!("{object} has {has}, and a volume does not shrink to {size}"));
    }
    if wanted <= now {
        return Ok((false, None));
    }
    context.fence.check(channel)?;
    let body = json!({
        "metadata": {"resourceVersion": claim.resource_version(), "uid": claim.uid()},
        "spec": {"resources": {"requests": {"storage": size}}},
    });
    match api.patch(&name, &PatchParams::default(), &Patch::Merge(&body)).await {
        Ok(_) => Ok((true, None)),
        Err(kube::Error::Api(status)) if is_about_size(&status) => {
            in_the_way(format!("{object}: {}", status.message.trim()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Why the relay may not move from its volume to the pod's own disk now: what waits there would be
/// left behind, and deleted with the channel.
pub fn strands(found: Option<&StatefulSet>, wanted: &StatefulSet, waiting: Option<Undelivered>) -> Option<Unapplied> {
    let has_claim = |set: &StatefulSet| {
        set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_ref()).is_some_and(|claims| !claims.is_empty())
    };
    let waiting = waiting.filter(|waiting| waiting.total() > 0)?;
    if !has_claim(found?) || has_claim(wanted) {
        return None;
    }
    let detail = format!("it is left once nothing waits on it: {}", waiting.in_words());
    Some(Unapplied { reason: Reason::VolumeNotResized, detail, is_harmless: true })
}

/// Whether a refusal is about the volume: neither a quota's nor one of rights.
fn is_about_size(status: &kube::core::Status) -> bool {
    [403, 422].contains(&status.code) && super::refusal::of_words(&status.message) == Reason::ObjectRefused
}

/// How much a quantity is.
fn bytes(quantity: &str) -> Option<f64> {
    let end = quantity.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(quantity.len());
    let (number, suffix) = quantity.split_at(end);
    let factor = match suffix {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        exponent => return format!("{number}{exponent}").parse().ok(),
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_compared_whatever_their_form() {
        for (less, more) in [("1Gi", "2Gi"), ("1G", "1Gi"), ("1023Mi", "1Gi"), ("1000", "1e6"), ("1.5Gi", "2048Mi")] {
            assert!(bytes(less) < bytes(more), "{less} {more}");
        }
        assert_eq!(bytes("1Gi"), bytes("1024Mi"));
        assert_eq!(bytes("a lot"), None);
    }

    #[test]
    fn a_relay_leaves_its_volume_only_once_nothing_waits_on_it() {
        let set = |has_claim: bool| -> StatefulSet {
            let claims = if has_claim { json!([{"metadata": {"name": "data"}}]) } else { json!([]) };
            serde_json::from_value(json!({"metadata": {"name": "a-relay"}, "spec": {"serviceName": "a-relay",
                "selector": {}, "template": {}, "volumeClaimTemplates": claims}}))
            .unwrap()
        };
        let two = Some(Undelivered { to_crm: 2, ..Undelivered::default() });
        let why = strands(Some(&set(true)), &set(false), two).unwrap();
        assert!(why.detail.contains("2 undelivered messages: 2 to the CRM"), "{why:?}");
        for (found, wanted, waiting) in [
            (Some(true), false, Some(Undelivered::default())),
            // A relay that says nothing may need another volume to come up; this one stays.
            (Some(true), false, None),
            (Some(true), true, two),
            (Some(false), true, two),
            (None, false, two),
        ] {
            let found = found.map(set);
            assert_eq!(strands(found.as_ref(), &set(wanted), waiting), None);
        }
    }
}
