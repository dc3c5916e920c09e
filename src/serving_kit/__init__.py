"""The small library behind the notebooks and the commands of the OneFlow serving kit."""
