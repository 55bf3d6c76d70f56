//! The `resight` command line. What it does lives in the library and in `commands`.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use resight_base::console::{complain, is_closed};

mod commands;

/// Quantise, evaluate and inspect int8 residual networks for Arm boards.
#[derive(Debug, Parser)]
#[command(name = "resight", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "\
To begin: `resight demo` shows all of it without a network of yours. Then fetch (or your own ONNX
file), quantize, evaluate, bench, deploy.
Exit codes: 0 success, 1 an error (one line on standard error), 2 wrong usage.
The environment variable RESIGHT_ISA forces an instruction set, for example RESIGHT_ISA=generic.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it work: marker cards before a camera, from f32 network to switched lines.
    Demo(commands::demo::Arguments),
    /// Download a known network and its labels, and check them.
    Fetch(commands::fetch::Arguments),
    /// Turn an f32 ONNX network into an int8 model file.
    Quantize(commands::quantize::Arguments),
    /// Turn an ONNX network that is quantised already into a model file.
    Convert(commands::convert::Arguments),
    /// Show where the error of an int8 network comes from, layer by layer and pass by pass.
    Analyze(commands::analyze::Arguments),
    /// Teach a network classes of your own from folders of photographs.
    Teach(commands::teach::Arguments),
    /// Name what a network's vectors are compared with, by a folder of photographs for each name.
    References(commands::references::Arguments),
    /// Compare models on a folder of labelled images.
    Evaluate(commands::evaluate::Arguments),
    /// Compare two networks with each other, layer by layer.
    Compare(commands::compare::Arguments),
    /// Write a model file's network as a standard ONNX file.
    Export(commands::export::Arguments),
    /// Write a page on a model file: accuracy, errors, changed decisions, probabilities, values.
    Report(commands::report::Arguments),
    /// Suggest a threshold for each class by a wanted rate of false alarms.
    Thresholds(commands::thresholds::Arguments),
    /// Classify images.
    Classify(commands::classify::Arguments),
    /// Show a model's layers, sizes, scales and kernels.
    Inspect(commands::inspect::Arguments),
    /// Measure how fast a model runs on this machine.
    Bench(commands::bench::Arguments),
    /// Write a ResNet with seeded random weights, for benchmarks without a download.
    Synth(commands::synth::Arguments),
    /// Make a pair of keys for signing models.
    Keygen(commands::keygen::Arguments),
    /// Sign a model file.
    Sign(commands::sign::Arguments),
    /// Check who signed a model file.
    Verify(commands::verify::Arguments),
    /// Bring a model, a configuration and resightd to a board, and go back if they do not work there.
    Deploy(commands::deploy::Arguments),
    /// Print a script that completes this command line in a shell.
    Completions(commands::completions::Arguments),
    /// What `resightd` would do with these arguments: `demo` starts it as a process of its own.
    #[command(name = commands::demo::service::SERVICE, hide = true, disable_help_flag = true)]
    Service(commands::demo::service::ServiceArguments),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    // The service has a log of its own kind.
    if !matches!(command, Command::Service(_)) {
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,resight=info"))
            .format_timestamp(None)
            .format_target(false)
            .init();
    }
    let result = match command {
        Command::Demo(arguments) => arguments.run(),
        Command::Fetch(arguments) => arguments.run(),
        Command::Quantize(arguments) => arguments.run(),
        Command::Convert(arguments) => arguments.run(),
        Command::Analyze(arguments) => arguments.run(),
        Command::Teach(arguments) => arguments.run(),
        Command::References(arguments) => arguments.run(),
        Command::Evaluate(arguments) => arguments.run(),
        Command::Compare(arguments) => arguments.run(),
        Command::Export(arguments) => arguments.run(),
        Command::Report(arguments) => arguments.run(),
        Command::Thresholds(arguments) => arguments.run(),
        Command::Classify(arguments) => arguments.run(),
        Command::Inspect(arguments) => arguments.run(),
        Command::Bench(arguments) => arguments.run(),
        Command::Synth(arguments) => arguments.run(),
        Command::Keygen(arguments) => arguments.run(),
        Command::Sign(arguments) => arguments.run(),
        Command::Verify(arguments) => arguments.run(),
        Command::Deploy(arguments) => arguments.run(),
        Command::Completions(arguments) => arguments.run(Cli::command()),
        Command::Service(arguments) => return arguments.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // As after `| head -1`: who reads has read enough.
        Err(error) if is_closed(error.chain()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("resight: {}", in_one_line(&error)));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, each once: most errors of the library tell their cause themselves.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if line.contains(&cause) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&cause);
    }
    line
}
