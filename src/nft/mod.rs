//! The firewall between the domains of one host: table `inet anklume`, as text, applied and read back.
//!
//! Pure from [`Input`] to [`Ruleset`]; [`Host`] is where nft runs. Facts of nft are those of 1.0.6 (Debian 12).

mod drift;
mod error;
mod file;
mod host;
mod input;
mod isolation;
mod layout;
mod limit;
mod listing;
mod place;
mod ruleset;
mod set;
mod shell;
mod statement;
mod suspect;
mod value;

pub use drift::Drift;
pub use error::Error;
pub use host::{Applied, Before, Host, Removed, Standing, TableMark};
pub use input::{EndpointField, EndpointInput, Given, Input, Parsed, Place, PolicyField, PolicyInput, Problem};
pub use isolation::Isolation;
pub use limit::Limit;
pub use listing::Present;
pub use place::{BadDestination, BadPath, Destination, PersistPath, Sudo, Via};
pub use ruleset::Ruleset;
pub use value::{Bridge, Fingerprint, NotAFingerprint, Ports, Protocol};

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
