//! What the controller was doing when it told of something: the `action` of events, in one place.

pub const SUBSCRIBE: &str = "Subscribe";
pub const UNSUBSCRIBE: &str = "Unsubscribe";
pub const CREATE_IN_CRM: &str = "CreateInCrm";
pub const CHANGE_IN_CRM: &str = "ChangeInCrm";
pub const REMOVE_IN_CRM: &str = "RemoveInCrm";
