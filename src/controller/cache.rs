//! What the watch of one kind has shown, kept as compressed JSON.
//!
//! An object as its type takes several times the room of its JSON, most of it for fields that
//! nobody has set, and of most objects nothing is read for hours. What every pass asks for is kept
//! beside the text; who needs more has the object made anew. Objects of one kind differ in little
//! more than their names, so that a text says where the words stand in the first one.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use kube::runtime::reflector::{ObjectRef, store};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt as _};
use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::resource::Channel;
use super::writer::controller_of;

/// Namespace and name.
type Key = (String, String);

fn key_of(object: &impl Resource) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// The objects of one kind.
#[derive(Debug)]
pub struct Cache<K> {
    kept: RwLock<HashMap<Key, Kept>>,
    /// The text of the first object, by which all are compressed.
    first: OnceLock<Box<[u8]>>,
    is_marked: fn(&K) -> bool,
    kind: PhantomData<fn() -> K>,
}

#[derive(Debug)]
struct Kept {
    seen: Seen,
    is_marked: bool,
    compressed: Box<[u8]>,
}

/// What is known of an object without reading it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub uid: Option<Box<str>>,
    pub version: Option<Box<str>>,
    /// The uid of its controller.
    pub controller: Option<Box<str>>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self::marking(|_| false)
    }
}

impl<K> Cache<K> {
    /// One that knows without reading which objects `is_marked` holds of.
    pub fn marking(is_marked: fn(&K) -> bool) -> Self {
        Self { kept: RwLock::default(), first: OnceLock::new(), is_marked, kind: PhantomData }
    }

    fn kept(&self) -> RwLockReadGuard<'_, HashMap<Key, Kept>> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of an object, if there is one.
    pub fn seen(&self, namespace: &str, name: &str) -> Option<Seen> {
        self.kept().get(&(namespace.to_owned(), name.to_owned())).map(|kept| kept.seen.clone())
    }

    /// Namespaces and names of those that are marked.
    pub fn marked(&self) -> Vec<Key> {
        self.kept().iter().filter(|(_, kept)| kept.is_marked).map(|(key, _)| key.clone()).collect()
    }

    pub fn len(&self) -> usize {
        self.kept().len()
    }
}

impl<K: Resource<DynamicType = ()> + Serialize + DeserializeOwned> Cache<K> {
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.read(self.kept().get(&(namespace.to_owned(), name.to_owned()))?).map(Arc::new)
    }

    fn read(&self, kept: &Kept) -> Option<K> {
        let text = decompress_size_prepended_with_dict(&kept.compressed, self.first.get()?);
        let read = text.map_err(|error| error.to_string());
        let read = read.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
        read.inspect_err(|error| tracing::error!("an object that was kept cannot be read ({error}): this is a bug"))
            .ok()
    }

    fn keep(&self, object: &K) -> Option<(Key, Kept)> {
        let key = key_of(object);
        let text = match serde_json::to_vec(object) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(name = %key.1, "an object cannot be kept as JSON ({error}): this is a bug");
                return None;
            }
        };
        let boxed = |text: &Option<String>| text.as_deref().map(Box::from);
        let seen = Seen {
            uid: boxed(&object.meta().uid),
            version: boxed(&object.meta().resource_version),
            controller: controller_of(object).map(|owner| owner.uid.as_str().into()),
        };
        let first = self.first.get_or_init(|| text.clone().into());
        let compressed = compress_prepend_size_with_dict(&text, first).into();
        Some((key, Kept { seen, is_marked: (self.is_marked)(object), compressed }))
    }
}

/// What the events of a watch fill.
pub trait Fill<K>: Send + 'static {
    /// Takes in an event. At the end of a list: what was there before it and is not any more, which
    /// was deleted while nobody watched. Until then everything is as before the list.
    fn take(&mut self, event: &Event<K>) -> Vec<Arc<K>>;
}

/// Fills a cache.
#[derive(Debug)]
pub struct Filling<K> {
    cache: Arc<Cache<K>>,
    /// The list so far.
    fresh: HashMap<Key, Kept>,
}

impl<K> Filling<K> {
    pub fn new(cache: &Arc<Cache<K>>) -> Self {
        Self { cache: cache.clone(), fresh: HashMap::new() }
    }
}

impl<K> Fill<K> for Filling<K>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + 'static,
{
    fn take(&mut self, event: &Event<K>) -> Vec<Arc<K>> {
        let all = || self.cache.kept.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => self.fresh = HashMap::new(),
            Event::InitApply(object) => self.fresh.extend(self.cache.keep(object)),
            Event::InitDone => {
                let before = std::mem::replace(&mut *all(), std::mem::take(&mut self.fresh));
                let now = self.cache.kept();
                let gone = before.iter().filter(|(key, _)| !now.contains_key(*key));
                return gone.filter_map(|(_, kept)| self.cache.read(kept).map(Arc::new)).collect();
            }
            Event::Apply(object) => all().extend(self.cache.keep(object)),
            Event::Delete(object) => drop(all().remove(&key_of(object))),
        }
        Vec::new()
    }
}

/// Channels are in the library's own store, from which it takes what it hands to a pass.
impl Fill<Channel> for store::Writer<Channel> {
    fn take(&mut self, event: &Event<Channel>) -> Vec<Arc<Channel>> {
        let now = self.as_reader();
        let before = if matches!(event, Event::InitDone) { now.state() } else { Vec::new() };
        self.apply_watcher_event(event);
        before.into_iter().filter(|channel| now.get(&ObjectRef::from_obj(&**channel)).is_none()).collect()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn service(name: &str, version: &str, port: u16) -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "n", "uid": format!("uid of {name}"), "resourceVersion": version,
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "A", "name": "a", "uid": "of a person"},
                    {"apiVersion": "v1", "kind": "A", "name": "b", "uid": "of a controller", "controller": true}]},
            "spec": {"ports": [{"name": "http", "port": port, "targetPort": "http"}]},
        }))
        .unwrap()
    }

    #[test]
    fn an_object_comes_out_as_it_went_in_and_what_passes_ask_for_is_known_without_reading() {
        let cache = Arc::new(Cache::<Service>::marking(|service| service.name_any() == "b"));
        let mut filling = Filling::new(&cache);
        for name in ["a", "b"] {
            filling.take(&Event::Apply(service(name, "1", 80)));
        }
        assert_eq!(cache.get("n", "a").as_deref(), Some(&service("a", "1", 80)));
        assert_eq!(cache.get("n", "c"), None);
        assert_eq!(cache.get("other", "a"), None);
        let seen = cache.seen("n", "a").unwrap();
        let words = [seen.uid, seen.version, seen.controller].map(Option::unwrap);
        assert_eq!(words.each_ref().map(AsRef::as_ref), ["uid of a", "1", "of a controller"]);
        assert_eq!((cache.marked(), cache.len()), (vec![("n".to_owned(), "b".to_owned())], 2));
        filling.take(&Event::Delete(service("a", "2", 80)));
        assert_eq!((cache.seen("n", "a"), cache.len()), (None, 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Also of one that is like none before it, or longer than what the compression looks back.
        #[test]
        fn every_object_comes_out_as_it_went_in(notes in prop::collection::vec((".{0,40}", 1_usize..4_000), 1..6)) {
            let cache = Arc::new(Cache::<Service>::default());
            let mut filling = Filling::new(&cache);
            let with_note = |(number, (note, times)): (usize, &(String, usize))| {
                let mut service = service(&number.to_string(), "1", 80);
                service.annotations_mut().insert("note".to_owned(), note.repeat(*times));
                service
            };
            let services: Vec<Service> = notes.iter().enumerate().map(with_note).collect();
            for service in &services {
                filling.take(&Event::Apply(service.clone()));
            }
            for service in &services {
                let kept = cache.get("n", &service.name_any());
                prop_assert_eq!(kept.as_deref(), Some(service));
            }
        }
    }

    #[test]
    fn a_new_list_counts_once_it_is_whole_and_says_who_is_gone() {
        let cache = Arc::new(Cache::<Service>::default());
        let mut filling = Filling::new(&cache);
        filling.take(&Event::Apply(service("a", "1", 80)));
        filling.take(&Event::Apply(service("b", "1", 80)));
        // A list that breaks off is begun again.
        for event in [Event::Init, Event::InitApply(service("c", "2", 80)), Event::Init] {
            assert!(filling.take(&event).is_empty());
        }
        filling.take(&Event::InitApply(service("b", "2", 81)));
        assert!(cache.get("n", "a").is_some() && cache.get("n", "c").is_none());
        assert_eq!(*cache.get("n", "b").unwrap(), service("b", "1", 80));
        let gone = filling.take(&Event::InitDone);
        assert_eq!(gone.iter().map(|gone| gone.name_any()).collect::<Vec<_>>(), ["a"]);
        assert_eq!((cache.len(), cache.get("n", "b").as_deref()), (1, Some(&service("b", "2", 81))));
    }
}
