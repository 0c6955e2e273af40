"""The training journeys over the road: stage one (supervised), and what stage two builds on."""
