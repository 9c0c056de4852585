//! The texts by which a test recognises a refusal or a warning, each in one place.

/// Summary of a create whose name is in use.
pub(crate) const NAME_IN_USE: &str = "the name is already in use";
/// Start of the detail where the object carries the mark of this state and configuration.
pub(crate) const MARKED_SINCE: &str = "exists already, with the mark of this state and configuration, since";
/// The detail where nothing proves that the object is ours.
pub(crate) const UNPROVEN: &str = "exists already, without a mark that proves that this configuration created it";
/// The environment variable that adopts an older object.
pub(crate) const RECOVER: &str = "ANKLUME_RECOVER";
/// Warning of a create that continues an interrupted one.
pub(crate) const CONTINUED: &str = "Continued an interrupted create";
/// Warning of a read that finds another object under the name.
pub(crate) const REPLACED_OUTSIDE: &str = "was replaced outside Terraform";
/// Warning of a read that finds the instance under another name.
pub(crate) const RENAMED_OUTSIDE: &str = "The instance was renamed outside Terraform";
/// Plan error: two resources describe one object.
pub(crate) const TWO_FOR_ONE: &str = "Two resources for one object";
/// Plan error: a name is taken before the plan gives it up.
pub(crate) const NAME_STILL_IN_USE: &str = "The name is still in use in this plan";
/// Apply error: the create of a replacement adopted the object that it should replace.
pub(crate) const NOTHING_REPLACED: &str = "Nothing was replaced";
/// Error of a session: the state belongs to another server.
pub(crate) const ANOTHER_SERVER: &str = "Another Incus server";
