"""Networks: backbones, necks and what they are joined to."""
