//! The shard over a real tree, with a stand-in for the pipeline that commits when told to.

mod asking;
mod bounds;
mod deliveries;
mod fairness;
mod fifo;
mod golden;
mod held;
mod identities;
mod kept;
mod lifecycle;
mod slices;
mod stand_in;
mod watching;
mod work;
