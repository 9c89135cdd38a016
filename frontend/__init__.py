"""The compiler's front: tracer, guards, ``compile``, the ahead-of-time driver, explanations."""
