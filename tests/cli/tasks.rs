//! The twelve tasks of `benches/tasks`: how long the lines of evt are. `scripts/bench tasks` compares the results.

use crate::documents::read;

/// The longest line of evt, in characters of the shortest right peer.
const LONGEST: f64 = 1.2;

#[test]
fn no_line_of_evt_is_much_longer_than_the_shortest_peer_that_is_right() {
    let file: toml::Table = read("benches/tasks/tasks.toml").parse().expect("TOML");
    let tasks = file["task"].as_array().expect("tasks");
    assert_eq!(tasks.len(), 12);
    let (mut faults, mut wrong) = (vec![], 0);
    for task in tasks {
        let commands = task.as_table().expect("a task").iter();
        let commands: Vec<_> = commands.filter_map(|(name, command)| Some((name, command.as_table()?))).collect();
        let length = |command: &toml::Table| command["line"].as_str().expect("a line").trim().chars().count();
        let own = commands.iter().find(|(name, _)| *name == "evt").map(|(_, command)| length(command));
        let peers = || commands.iter().filter(|(name, _)| *name != "evt");
        wrong += peers().filter(|(_, peer)| peer.contains_key("wrong")).count();
        let shortest = peers().filter(|(_, peer)| !peer.contains_key("wrong")).map(|(_, peer)| length(peer)).min();
        let (own, shortest) = (own.expect("a line of evt"), shortest.expect("a peer that is right"));
        if own as f64 > LONGEST * shortest as f64 {
            faults.push(format!("{}: {own} characters, expected at most {LONGEST} times {shortest}", task["name"]));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(wrong, 1, "peers that are known to be wrong");
}
