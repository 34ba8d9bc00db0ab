"""What happens to a batch. Whoever imports a transform has pickle and Beam seal every batch that leaves the process."""

import transforms.coders  # noqa: F401
