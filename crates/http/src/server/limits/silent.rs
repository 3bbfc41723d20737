//! Connections that make room for others: clients that send nothing keep no client out that has a request.

use super::timeouts::Phase;
use std::collections::VecDeque;
use tokio::task::AbortHandle;

/// The open connections of a server whose silent ones make room, the oldest first.
#[derive(Default)]
pub struct OpenConnections(VecDeque<(AbortHandle, Phase)>);

impl OpenConnections {
    /// Adds a connection, which this task serves.
    pub fn add(&mut self, task: AbortHandle, phase: Phase) {
        self.0.retain(|(task, _)| !task.is_finished());
        self.0.push_back((task, phase));
    }

    /// Closes the oldest connection without a request, or the oldest of all if each has one.
    pub fn close_one(&mut self) {
        let silent = self.0.iter().position(|(task, phase)| !task.is_finished() && !phase.has_asked());
        if let Some((task, _)) = self.0.remove(silent.unwrap_or(0)) {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_silent_connection_makes_room_and_then_the_oldest_of_all() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let phases = [0; 4].map(Phase::new);
            let tasks: Vec<_> = phases.iter().map(|_| tokio::spawn(std::future::pending::<()>())).collect();
            let mut open = OpenConnections::default();
            tasks.iter().zip(&phases).for_each(|(task, phase)| open.add(task.abort_handle(), phase.clone()));
            phases[0].begin(false);
            phases[2].begin(false);
            // An answered request is one too.
            phases[2].end();
            let mut closed = vec![];
            for _ in 0..5 {
                open.close_one();
                tokio::task::yield_now().await;
                let finished = (0..4).filter(|index| tasks[*index].is_finished());
                closed.extend(finished.filter(|index| !closed.contains(index)).collect::<Vec<_>>());
            }
            assert_eq!(closed, [1, 3, 0, 2]);
        });
    }
}
