"""The shipped T1 brain model: ceVAE and denoiser on whole volumes, compared with normals place by place."""
