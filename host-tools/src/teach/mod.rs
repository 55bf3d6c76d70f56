//! `resight teach`: from folders of photographs to a model file.
//!
//! [`photographs`] says what there is, [`backbone`] makes the int8 network, [`job`] computes features
//! (with what [`cache`] remembers), has [`resight_teach`] learn, and writes the model file; [`page`] is
//! the report for people. [`normal`] does the same for photographs of good parts alone.

pub mod backbone;
pub mod cache;
pub mod job;
pub mod normal;
pub mod page;
mod photograph;
pub mod photographs;

pub use job::{Job, Taught, TaughtReport};
pub use normal::{InspectionReport, Normal, NormalJob};
pub use photographs::{GroupBy, Photographs, TaughtPhotograph};
