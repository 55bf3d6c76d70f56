//! The service end to end, as a process, on a tiny network and generated frames.

mod broker;
mod cameras;
mod commands;
mod faults;
mod harness;
mod outputs;
mod page;
mod quiet;
mod running;
mod web;
