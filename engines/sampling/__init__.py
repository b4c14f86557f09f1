"""The denoising loop, its schedules, and several predictions combined into one."""
