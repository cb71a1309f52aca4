"""What controllers run on: clock, queue, calls to suppliers, shared observation. It knows no kind's rules."""
