use std::fs;

use super::*;
use crate::frame::{Frame, Next, Source as _};
use crate::source::settings::StreamFormat;
use crate::source::stream::Stream;
use crate::source::video::Video;

/// Nothing here takes so long on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

fn shell(script: &str) -> Program {
    Program::start("sh", &["sh", "-c", script].map(str::to_owned)).unwrap()
}

/// Reads until the end, and gives how it ended.
fn read_all(program: &mut Program) -> (Vec<u8>, String) {
    let (mut bytes, mut chunk) = (vec![], [0; 1000]);
    loop {
        match program.read(&mut chunk, Instant::now() + PATIENCE).unwrap() {
            More::Bytes(count) => bytes.extend_from_slice(&chunk[..count]),
            More::Nothing => {}
            More::End => return (bytes, program.ended().to_string()),
        }
    }
}

/// Whether a process is there and no zombie.
fn is_alive(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat"));
    state.is_ok_and(|text| !text.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

#[test]
fn what_it_writes_comes_and_its_last_words_are_shown() {
    let mut program = shell("printf abc; echo 'rtsp://me:secret@cam: 401 Unauthorized' >&2; exit 3");
    let (bytes, error) = read_all(&mut program);
    assert_eq!(bytes, b"abc");
    assert_eq!(
        error,
        "sh: the program has ended (exit status: 3); its last words: rtsp://…@cam: 401 Unauthorized"
    );
}

#[test]
fn a_program_that_is_not_there_is_named_with_the_remedy() {
    let error = Program::start("rpicam-vid", &["no-such-program".to_owned()]).unwrap_err().to_string();
    assert!(error.starts_with("rpicam-vid: the program cannot be started: No such file"), "{error}");
    assert!(error.ends_with("install it, or give its whole path"), "{error}");
}

#[test]
fn it_is_ended_with_all_that_it_has_started() {
    let mut program = shell("sleep 1000 & echo $! $$; wait");
    let mut chunk = [0; 100];
    let count = loop {
        match program.read(&mut chunk, Instant::now() + PATIENCE).unwrap() {
            More::Bytes(count) => break count,
            more => assert_eq!(more, More::Nothing),
        }
    };
    let text = String::from_utf8(chunk[..count].to_vec()).unwrap();
    assert!(text.split_whitespace().all(is_alive), "{text}");
    drop(program);
    let gone = || !text.split_whitespace().any(is_alive);
    assert!(until(Instant::now() + PATIENCE, LOOK, gone), "{text}");
}

#[test]
fn one_that_ignores_sigterm_is_killed() {
    let mut program = shell("trap '' TERM; echo $$; while :; do sleep 0.01; done");
    let mut chunk = [0; 100];
    while program.read(&mut chunk, Instant::now() + PATIENCE).unwrap() == More::Nothing {}
    program.end();
    assert!(matches!(program.child.try_wait(), Ok(Some(status)) if !status.success()));
}

#[test]
fn it_gets_neither_our_files_nor_our_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let ours = folder.path().join("ours");
    let _open = fs::File::create(&ours).unwrap();
    let (bytes, _) = read_all(&mut shell("ls -l /proc/$$/fd; env"));
    let text = String::from_utf8(bytes).unwrap();
    assert!(!text.contains(&ours.display().to_string()), "{text}");
    assert!(!OURS.iter().any(|name| text.contains(name)), "{text}");
}

/// A camera in the network that is still connected, for example.
#[test]
fn one_that_gives_no_frames_is_an_error_in_the_end() {
    let program = shell("echo waiting >&2; exec sleep 1000");
    let silence = Duration::from_millis(20);
    let mut video = Video::new(Stream::of(program), StreamFormat::Mjpeg, None, Some(silence));
    let mut frame = Frame::new();
    let error = loop {
        match video.next(&mut frame, Duration::from_millis(5)) {
            Ok(next) => assert_eq!(next, Next::Nothing),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.starts_with("sh: no frame for 20 ms"), "{error}");
}

#[test]
fn a_program_that_cannot_be_found_is_told() {
    let config = |program: &str| SourceConfig {
        kind: SourceKind::Command(crate::source::settings::CommandConfig {
            arguments: vec![program.to_owned()],
            format: StreamFormat::Y4m,
            silence: PATIENCE,
        }),
        path: program.to_owned(),
        repeat: false,
        rate: None,
    };
    assert_eq!(missing_program(&config("no-such-program")), Some("no-such-program"));
    assert_eq!(missing_program(&config("/no/such/program")), Some("/no/such/program"));
    assert_eq!(missing_program(&config("sh")), None);
}
