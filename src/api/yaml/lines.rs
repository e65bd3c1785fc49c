//! The line of every field of a document, without any value.

use std::collections::HashMap;

use crate::api::path::{FieldPath, Segment};

/// The line of a value, counted from 1, and those of everything in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::api) struct Lines {
    pub line: usize,
    below: Below,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum Below {
    #[default]
    Nothing,
    /// With the line of each key.
    Members(HashMap<String, (usize, Lines)>),
    Items(Vec<Lines>),
}

impl Lines {
    pub(super) fn of_value(line: usize) -> Self {
        Self { line, below: Below::Nothing }
    }

    pub(super) fn of_members(line: usize, members: HashMap<String, (usize, Lines)>) -> Self {
        Self { line, below: Below::Members(members) }
    }

    pub(super) fn of_items(line: usize, items: Vec<Lines>) -> Self {
        Self { line, below: Below::Items(items) }
    }

    /// The members, to be merged into another mapping.
    pub(super) fn into_members(self) -> HashMap<String, (usize, Lines)> {
        match self.below {
            Below::Members(members) => members,
            _ => HashMap::new(),
        }
    }

    /// The line on which a field stands or, where it is missing, the nearest thing around it.
    pub(in crate::api) fn of(&self, field: &FieldPath) -> usize {
        let mut place = self;
        let mut segments = field.segments().iter().peekable();
        while let Some(segment) = segments.next() {
            place = match (segment, &place.below) {
                (Segment::Key(key), Below::Members(members)) => match members.get(key) {
                    Some((line, _)) if segments.peek().is_none() => return *line,
                    Some((_, value)) => value,
                    None => break,
                },
                (Segment::Index(index), Below::Items(items)) => match items.get(*index) {
                    Some(item) => item,
                    None => break,
                },
                _ => break,
            };
        }
        place.line
    }

    pub(super) fn into_items(self) -> Vec<Lines> {
        match self.below {
            Below::Items(items) => items,
            _ => Vec::new(),
        }
    }

    /// The lines of each item of a member.
    pub(in crate::api) fn items(self, member: &str) -> Vec<Lines> {
        self.into_members().remove(member).map(|(_, lines)| lines.into_items()).unwrap_or_default()
    }
}
