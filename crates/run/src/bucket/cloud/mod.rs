//! What differs between the clouds: options of addresses, servers, credentials.
//!
//! - `store.rs`: the interface. `amazon.rs`, `google.rs`, `azure.rs`: one cloud each.
//! - `keys.rs`: credentials. `profile.rs`: the shared files of Amazon's tools. `role.rs`: the temporary credentials of
//!   a role that a profile names.

pub mod amazon;
pub mod azure;
pub mod google;
pub mod keys;
mod profile;
mod role;
pub mod store;
#[cfg(test)]
mod tests;
