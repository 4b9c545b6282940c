//! The wire and durable formats, and their conversions to the nouns.
//!
//! The `.proto` files under `proto/` are the contract; [`common`], [`meta`], [`block`],
//! [`node`], [`raft`] and [`admin`] are generated from them; [`convert`] turns them into the nouns of
//! `arustio-types` and back. Nobody outside this crate builds a message field by field
//! where a conversion exists.
//!
//! A command has one encoding, on the wire and in the log: [`convert::encode_command`].
//! The feature `storage` is that and nothing else; `client` and `server` add gRPC stubs.
//!
//! [`frame`] is the other wire, the one that carries the bytes of blocks.
//!
//! No business rules here: a conversion checks that a value can exist (a path is a path,
//! a list is not absurdly long), never whether it may be done.
#![forbid(unsafe_code)]

pub mod convert;
#[cfg(feature = "grpc")]
pub mod failure;
pub mod frame;
#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

/// A module of generated code, on which the lints of the house are not used.
#[macro_export]
macro_rules! generated {
    ($(#[$doc:meta])* $visible:vis mod $name:ident { $($code:item)* }) => {
        $(#[$doc])*
        #[allow(
            missing_docs,
            unreachable_pub,
            unused_qualifications,
            clippy::all,
            clippy::allow_attributes_without_reason,
            clippy::clone_on_ref_ptr,
            clippy::large_futures,
            clippy::unwrap_used,
            reason = "generated code"
        )]
        $visible mod $name { $($code)* }
    };
}

/// One package: documented by the comments of its `.proto` file.
macro_rules! package {
    ($(#[$doc:meta])* $name:ident) => {
        generated! {
            $(#[$doc])*
            pub mod $name {
                /// The first version, and the only one so far.
                pub mod v1 {
                    include!(concat!(env!("OUT_DIR"), "/arustio.", stringify!($name), ".v1.rs"));
                }
            }
        }
    };
}

package!(
    /// Nouns that more than one service uses.
    common
);
package!(
    /// The metadata service: commands, outcomes, queries, answers.
    meta
);
package!(
    /// The block service.
    block
);
package!(
    /// Liveness of block nodes.
    node
);
package!(
    /// What metadata servers say to one another.
    raft
);
package!(
    /// What operators ask of the metadata servers.
    admin
);

impl std::fmt::Debug for meta::v1::ClearSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClearSecrets({} set)", self.values.len())
    }
}
