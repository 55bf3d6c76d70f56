//! `resight teach`: from folders of photographs to a model file.
//!
//! [`photographs`] says what there is, [`backbone`] makes the int8 network, [`job`] computes features
//! (with what [`cache`] remembers), has [`resight_teach`] learn, and writes the model file; [`page`] is
//! the report for people.

pub mod backbone;
pub mod cache;
pub mod job;
pub mod page;
pub mod photographs;

pub use job::{Job, Taught, TaughtReport};
pub use photographs::{GroupBy, Photographs, TaughtPhotograph};
