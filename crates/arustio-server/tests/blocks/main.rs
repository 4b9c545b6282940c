//! The block cache of a server as its clients see it, on both wires and by descriptors,
//! and what the framed one does with peers that misbehave.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod bring;
mod conformance;
mod crowd;
mod daemon;
mod damage;
mod disks;
mod give_up;
mod hostile;
mod house;
mod leases;
mod nonsense;
mod pass;
mod versions;
