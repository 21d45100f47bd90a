"""What is done with customers: audiences, offers, geofences."""
