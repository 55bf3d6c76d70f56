//! The layers and heads of the runtime, from the outside. One program: to link tract into ten of
//! them takes longer than to run them.

mod boxes_and_masks;
mod classes;
mod common;
mod concatenations;
mod graph;
mod levels;
mod outputs;
mod outside;
mod points;
mod small_layers;
mod things;
mod tract_user;
mod vectors;
