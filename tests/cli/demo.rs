//! `resight demo`, from the f32 network to lines that switch.

use std::fs;
use std::process::Command;

#[test]
fn the_demonstration_quantises_evaluates_and_switches_lines() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_resight"))
        .args(["demo", "--folder", "out", "--seconds", "12"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for event in [
        "rule stop     active    stop",
        "rule stop     inactive",
        "rule go       active    go",
        "rule arrow    active    left",
    ] {
        assert!(text.contains(event), "{event} is missing in {text}");
    }
    let log = fs::read_to_string(folder.path().join("out/resightd.log")).unwrap();
    assert!(log.contains("line red_lamp: active") && log.contains("line red_lamp: inactive"), "{log}");
}

#[test]
fn two_cameras_of_the_demonstration_share_the_network_and_show_different_cards() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_resight"))
        .args(["demo", "--folder", "out", "--seconds", "12", "--cameras", "2"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for camera in 1..=2 {
        let active = |line: &&str| line.contains(&format!("/camera-{camera} active"));
        assert!(text.lines().any(|line| active(&line)), "{text}");
    }
    let clips =
        ["clip.mjpeg", "clip2.mjpeg"].map(|name| fs::read(folder.path().join("out").join(name)).unwrap());
    assert_ne!(clips[0], clips[1]);
    let log = fs::read_to_string(folder.path().join("out/resightd.log")).unwrap();
    assert!(log.contains("camera-1: ready") && log.contains("camera-2: ready"), "{log}");
    assert!(!log.contains("no frame for"), "{log}");
}
